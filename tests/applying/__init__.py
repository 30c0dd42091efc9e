"""`clipmod apply` and `undo`."""
