"""Devices: which one is used, transfers to it and back, and what it can do."""
