"""Evidence and a policy to verdicts: the one room that knows policies. Arithmetic on what models saw."""
