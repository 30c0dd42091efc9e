"""Runs in parts whose folder is in an object store."""
