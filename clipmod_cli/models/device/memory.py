"""Returns freed memory to the system."""

from __future__ import annotations

import ctypes
import gc
import sys


def release_freed_memory() -> None:
    """Return freed memory to the system, on Linux with glibc.

    glibc keeps freed memory below its last block in use: hundreds of megabytes after a tower was freed.
    """
    gc.collect()
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries lack it
    if trim is not None:
        trim(0)
