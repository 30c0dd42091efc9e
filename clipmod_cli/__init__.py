"""clipmod: batch moderation of pictures and videos."""

__version__ = "0.1.0"
