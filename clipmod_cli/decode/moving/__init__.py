"""Animations (GIF, APNG, WebP, AVIF, TIFF pages): which frames there are, and when each is shown."""
