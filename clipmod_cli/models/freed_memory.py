"""Returns freed memory to the system, after a model was loaded or a tower freed. Imports no torch."""

from __future__ import annotations

import ctypes
import gc
import sys


def release_freed_memory() -> None:
    """Return freed memory to the system; glibc keeps hundreds of megabytes after a tower was freed.

    Loading a graph of onnxruntime frees twice its file's size.
    """
    gc.collect()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries lack it
        if trim is not None:
            trim(0)
