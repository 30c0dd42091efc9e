"""Fuzzing with coverage: whatever the bytes, only what was promised may come of them.

`python -m tests.fuzz TARGET --seconds 300` for a person, `test_fuzz.py` for a few seconds in the suite.
"""
