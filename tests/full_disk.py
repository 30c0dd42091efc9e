"""A disk that is full: no file of this process grows beyond a size."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Let no file of this process or a child grow beyond `size` bytes: a write is cut short, then refused.

    Modules that are imported meanwhile are not cached: Python does not notice that their files are cut short.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (
        mock.patch.object(sys, "dont_write_bytecode", True),
        mock.patch.dict(os.environ, PYTHONDONTWRITEBYTECODE="1"),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores the signal that goes with it
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
