"""Storage that outlives a request: hosted pictures, prediction files and rows for the statistics."""
