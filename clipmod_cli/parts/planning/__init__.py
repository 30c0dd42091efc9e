"""Making the plan of a run in parts: one process lists while others wait."""
