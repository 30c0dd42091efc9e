"""Giving memory that was freed back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys


def release_freed_memory() -> None:
    """Have freed memory leave the process, where the C library can do that.

    glibc keeps what lies below its last block in use: after a tower of hundreds of megabytes was let go,
    all of them.
    """
    gc.collect()
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries lack it
    if trim is not None:
        trim(0)
