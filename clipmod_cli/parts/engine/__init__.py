"""What runs workers on several machines; each engine imports its own library alone."""
