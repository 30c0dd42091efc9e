"""The forward pass of CLIP's vision towers: shape, layers, precision, and their 16-bit files."""
