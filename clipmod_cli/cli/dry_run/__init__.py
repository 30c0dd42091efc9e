"""`--dry-run`: counts the inputs, and estimates how long the run takes. Judges and writes nothing."""
