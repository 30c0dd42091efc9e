"""Reads the records of outputs: checks their lines once, and answers queries over them."""
