"""Archives as a source: what is read of them, what is told of what cannot be, and what it costs."""
