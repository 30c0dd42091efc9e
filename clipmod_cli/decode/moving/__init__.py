"""Animations (GIF, APNG, WebP, AVIF, TIFF pages): their frames, and which frames of a sequence are scored."""
