"""Bytes → views: limits and formats, colours and orientation, geometry, the worker pool.

The only place where decoders' errors are caught. Import what is needed from the modules below:
`limits` and `formats` are cheap to import, the others bring Pillow, numpy and (in use) torch.
"""
