"""Runs in parts: judging them, and the commands `parts` and `merge`."""
