"""Models behind one seam (`clipmod_cli.types.Model`): specs, weights, and one file a backend.

The only room that imports torch, transformers and onnxruntime (besides `decode.geometry`).
"""
