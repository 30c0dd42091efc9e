"""The base install: what works without any extra."""
