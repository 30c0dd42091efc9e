"""Moving, copying and deleting what was found, with a way back: plan, carry out, undo."""
