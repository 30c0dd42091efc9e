"""stdout is sacred: only records get there, whatever a library prints.

The real stdout is kept as a descriptor of its own, and descriptor 1 is pointed at stderr, so
that even a print from C code in a library cannot get into piped output.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RealStdout:
    """The stdout that the user's shell connected."""

    descriptor: int
    is_terminal: bool


@contextmanager
def take_stdout() -> Iterator[RealStdout]:
    """Give the real stdout; while the context lasts, everything else that prints goes to stderr."""
    sys.stdout.flush()
    # not inheritable: a worker process must not keep the reader of a pipe waiting
    descriptor = os.dup(1)
    os.dup2(2, 1)
    try:
        yield RealStdout(descriptor, os.isatty(descriptor))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.dup2(descriptor, 1)
        os.close(descriptor)


def plain(text: str) -> str:
    """Return text that a terminal shows as it is: control characters and lone surrogates escaped.

    A file's name may hold escape sequences that would move the cursor or retitle the window.
    """
    shown = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return "".join(shown)
