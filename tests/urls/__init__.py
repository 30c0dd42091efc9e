"""Downloading from servers that mean harm, all of them on loopback."""
