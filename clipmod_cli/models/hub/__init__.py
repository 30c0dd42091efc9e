"""Weights from the Hugging Face hub: download, verification against the lock file, the cache on disk."""
