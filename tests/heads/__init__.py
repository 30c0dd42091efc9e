"""Heads: their files, what they say of embeddings, and how they are learnt."""
