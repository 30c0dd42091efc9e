"""Batches of frames to evidence: runs every model and gathers what each one saw. Knows no policy."""
