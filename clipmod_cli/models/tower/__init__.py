"""Our own forward pass of CLIP's vision towers: shape, layers, precision, and the one-off 16-bit file."""
