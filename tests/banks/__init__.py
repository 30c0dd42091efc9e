"""Banks of hashes: reading, deciding, editing, and records that are decided again."""
