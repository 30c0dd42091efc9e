"""Commands that learn from labels."""
