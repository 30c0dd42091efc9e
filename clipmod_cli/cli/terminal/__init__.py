"""What a person sees: stdout, progress, tables, logs and the summary."""
