"""The recipes of CONTRIBUTING, each carried out with a toy entry."""
