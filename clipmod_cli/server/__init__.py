"""The HTTP front end: the same pipeline as the command line, shared by concurrent callers."""
