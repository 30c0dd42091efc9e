"""Protects stdout: only records get there, and errors of stderr are ignored.

Descriptor 1 is redirected to stderr: a print from C code in a library cannot get into piped output.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@dataclass(frozen=True, slots=True)
class RealStdout:
    """The stdout that clipmod was started with.

    Attributes:
        is_pipe: another program reads it, which may write to the terminal of stderr.
    """

    descriptor: int
    is_terminal: bool
    is_pipe: bool = False

    def columns(self) -> int | None:
        """Return the width of the terminal; None if it has none."""
        try:
            return os.get_terminal_size(self.descriptor).columns or None
        except OSError:
            return None


@contextmanager
def take_stdout() -> Iterator[RealStdout]:
    """Give the real stdout; redirect all other output to stderr until the process ends.

    Not only within the context: buffers of C code may be flushed later, and threads may print later.
    """
    sys.stdout.flush()
    # not inheritable: a worker process would keep a pipe open
    descriptor = os.dup(1)
    os.dup2(2, 1)
    try:
        yield RealStdout(descriptor, os.isatty(descriptor), _is_pipe(descriptor))
    finally:
        os.close(descriptor)


def _is_pipe(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def drop_stdout() -> None:
    """Discard what is not flushed to stdout yet: the pipe is closed or the disk full."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Open closed standard streams on the null device, and ignore errors of writing to stderr.

    The next opened file would take a closed stream's number, and get its output. A closed terminal
    or pipe or a full disk behind stderr must not stop a run.
    """
    # in the wrong direction: reading a closed stdin and writing to a closed stdout have to fail
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
    with contextlib.ExitStack() as stack:
        if sys.stdout is None:  # it was closed
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(_safe_stderr()))
        yield


class _IgnoringErrors(io.FileIO):
    """Counts what cannot be written as written."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Return the bytes written or lost."""
        with contextlib.suppress(OSError):
            if (written := super().write(data)) is not None:
                return written
        return memoryview(data).nbytes


def _safe_stderr() -> TextIO:
    raw = _IgnoringErrors(2, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(sys.stderr, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def say(text: str) -> None:
    """Write a line to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def plain(text: str) -> str:
    """Return text with control characters and lone surrogates escaped: file names may hold such sequences."""
    shown = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return "".join(shown)
