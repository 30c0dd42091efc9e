"""Tests of `clipmod review`."""
