"""What the parser lacks: help in groups, one style of usage errors, completion."""
