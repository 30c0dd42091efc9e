"""The interfaces that the service speaks, one room each."""
