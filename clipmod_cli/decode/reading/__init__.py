"""Reads inputs: their bytes, and what they are by their content."""
