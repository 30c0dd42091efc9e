"""stdout is sacred: only records get there, whatever a library prints. stderr never stops a run.

The real stdout is kept as a descriptor of its own, and descriptor 1 is pointed at stderr, so
that even a print from C code in a library cannot get into piped output.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT_NAMES = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})
"""Names of stdout. Opened as a file, the last three would be stderr: descriptor 1 is pointed there."""


@dataclass(frozen=True, slots=True)
class RealStdout:
    """The stdout that the user's shell connected."""

    descriptor: int
    is_terminal: bool


@contextmanager
def take_stdout() -> Iterator[RealStdout]:
    """Give the real stdout; from now on, everything else that prints goes to stderr.

    That stays so after the context: what C code printed may wait in a buffer until the process
    ends, and a library's thread may print until then.
    """
    sys.stdout.flush()
    # not inheritable: a worker process must not keep the reader of a pipe waiting
    descriptor = os.dup(1)
    os.dup2(2, 1)
    try:
        yield RealStdout(descriptor, os.isatty(descriptor))
    finally:
        os.close(descriptor)


def drop_stdout() -> None:
    """Let what is still to be flushed to stdout vanish: there is nobody, or no room, to take it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Make sure that the three standard streams are there, and that no write to stderr raises.

    A closed one would give its number to the next file that is opened, and records to it. A
    terminal that is gone, a closed pipe or a full disk behind stderr must not end a night's run.
    """
    # In the wrong direction: reading a closed stdin and writing to a closed stdout have to fail.
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
    with contextlib.ExitStack() as stack:
        if sys.stdout is None:  # Python's way to say that it was closed
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(_forgiving_stderr()))
        yield


class _Forgiving(io.FileIO):
    """A descriptor for which what cannot be written counts as written."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write what can be written; return how much need not be tried again."""
        with contextlib.suppress(OSError):
            if (written := super().write(data)) is not None:
                return written
        return memoryview(data).nbytes


def _forgiving_stderr() -> TextIO:
    raw = _Forgiving(2, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(sys.stderr, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def plain(text: str) -> str:
    """Return text that a terminal shows as it is: control characters and lone surrogates escaped.

    A file's name may hold escape sequences that would move the cursor or retitle the window.
    """
    shown = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return "".join(shown)
