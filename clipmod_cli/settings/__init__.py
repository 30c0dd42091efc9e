"""Every setting: its definition, and its value in this run."""
