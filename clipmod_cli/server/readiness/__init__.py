"""Whether the service can judge: the reference picture, what follows from it, and draining."""
