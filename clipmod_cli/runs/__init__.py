"""What judges the inputs of a run, whatever becomes of their records: one output, or parts."""
