"""Archives as sources: zip, tar and compressed files, read as streams within budgets, nothing on disk."""
