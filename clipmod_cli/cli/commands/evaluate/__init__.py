"""Commands that measure and tune on labels."""
