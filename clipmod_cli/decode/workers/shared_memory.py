"""Memory shared by one worker and its parent, so that pixels need not pass through a pipe.

It has no name that could be left behind, and its size is sealed: reading behind the end of a file that the
worker had cut would kill the parent.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 8_000_000
"""Fifty views of 224 x 224; larger results go through the pipe. Pages are allocated when written."""

Pixels = NDArray[np.uint8]


class SharedBlock:
    """Shared memory of a fixed size; an argument of the worker's process."""

    def __init__(self, descriptor: int, size: int, *, writable: bool) -> None:
        self.size = size
        self._descriptor = descriptor
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._memory = mmap.mmap(descriptor, size, access=access)

    def __reduce__(self) -> tuple[Callable[..., SharedBlock], tuple[Any, int]]:
        if sys.platform == "win32":
            raise TypeError("no shared memory on this system")
        from multiprocessing.reduction import DupFd

        return _open_in_worker, (DupFd(self._descriptor), self.size)

    def write(self, arrays: Sequence[Pixels]) -> bool:
        """Write the arrays one after the other; return false if they do not fit."""
        if sum(array.nbytes for array in arrays) > self.size:
            return False
        at = 0
        for array in arrays:
            place = np.frombuffer(self._memory, np.uint8, array.nbytes, at)
            np.copyto(place.reshape(array.shape), array)
            at += array.nbytes
        return True

    def read(self, offset: int, count: int) -> bytes:
        """Return a copy of `count` bytes; raises ValueError where they do not all lie inside."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise ValueError("invalid result from decode worker: pixels outside of the shared memory")
        return self._memory[offset : offset + count]

    def close(self) -> None:
        """Unmap the memory in this process."""
        self._memory.close()
        os.close(self._descriptor)


def make_shared_block(size: int = BLOCK_BYTES) -> SharedBlock | None:
    """Return a new block that this process reads and a worker writes; None if the system has none."""
    if sys.platform != "linux":
        return None  # other systems cannot seal its size
    import fcntl

    try:
        descriptor = os.memfd_create("clipmod-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(
            descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        )
        return SharedBlock(descriptor, size, writable=False)
    except OSError:
        os.close(descriptor)
        return None


def _open_in_worker(duplicate: Any, size: int) -> SharedBlock:
    return SharedBlock(duplicate.detach(), size, writable=True)
