"""Continuing an output: its run card, what is done, what is gone, and removing lines."""
