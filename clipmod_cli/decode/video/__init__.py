"""Videos: containers and tracks through PyAV, which frames are sampled, and what is damaged."""
