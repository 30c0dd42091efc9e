"""`clipmod apply` and `clipmod apply undo`."""
