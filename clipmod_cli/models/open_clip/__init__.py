"""Text-image models of open_clip: which one is meant, its weights, its towers and its text embeddings."""
