"""Request bodies with files: bounded, paced, read as they arrive."""
