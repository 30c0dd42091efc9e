"""Models behind one seam (`models.seam`): specs, weights, and one file a backend.

The only room that imports torch, transformers and onnxruntime (besides `decode.views`).
"""
