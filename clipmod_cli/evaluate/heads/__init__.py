"""Heads: a category of one's own, learnt from labels on stored embeddings, and how good it is."""
