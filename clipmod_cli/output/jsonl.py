"""Records onto a file or stream: one whole line a write, or none of it.

What the lines say is `clipmod_cli.records`; what an existing file holds already is
`clipmod_cli.output.resume`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from clipmod_cli.errors import OutputError

SYNC_RECORDS = 1000
SYNC_SECONDS = 2.0
"""A power cut costs at most this much; syncing every record would cost the disk's whole rate."""


class LineSink(Protocol):
    """Takes whole lines, each with its newline."""

    def write(self, line: bytes) -> None:
        """Write one line.

        Raises:
            OutputError: if it cannot be written whole.
            BrokenPipeError: if the reader of a pipe has left.
        """
        ...

    def close(self) -> None:
        """Flush what is buffered and let go."""
        ...


@dataclass
class StreamSink:
    """A pipe, terminal or device: nothing can be cut back, synced or resumed."""

    descriptor: int
    name: str = "stdout"

    def write(self, line: bytes) -> None:
        """Write one line, in as many pieces as the reader takes."""
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except BrokenPipeError:
                raise
            except BlockingIOError:
                # A program on the other end may have made the pipe non-blocking.
                select.select([], [self.descriptor], [])
            except OSError as e:
                raise OutputError(f"cannot write to {self.name}: {e.strerror}") from e

    def close(self) -> None:
        """Let go of the descriptor."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


@dataclass
class FileSink:
    """A regular file, appended to. Build it with `open_file` while holding its `OutputLock`."""

    descriptor: int
    path: Path
    size: int
    _unsynced: int = 0
    _synced_at: float = field(default_factory=time.monotonic)

    def write(self, line: bytes) -> None:
        """Append one line; a line that does not fit is cut back to nothing."""
        try:
            written = os.write(self.descriptor, line)
        except OSError as e:
            self._cut_back()
            raise OutputError(f"cannot write to {self.path}: {e.strerror}") from e
        if written < len(line):
            self._cut_back()
            raise OutputError(f"cannot write to {self.path}: the disk is full")
        self.size += written
        self._unsynced += 1
        if self._unsynced >= SYNC_RECORDS or time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self._sync()

    def close(self) -> None:
        """Sync and close."""
        try:
            self._sync()
        finally:
            os.close(self.descriptor)

    def _cut_back(self) -> None:
        with contextlib.suppress(OSError):  # what is left is a torn line, which the next run cuts
            os.ftruncate(self.descriptor, self.size)

    def _sync(self) -> None:
        try:
            os.fsync(self.descriptor)
        except OSError as e:
            raise OutputError(f"cannot write {self.path} to disk: {e.strerror}") from e
        self._unsynced = 0
        self._synced_at = time.monotonic()


def is_regular(path: Path) -> bool:
    """Return whether a file there is, or would be, a regular one (not a device or a named pipe)."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True
    except OSError as e:
        raise OutputError(f"cannot write to {path}: {e.strerror}") from e


def open_file(path: Path) -> FileSink:
    """Return a sink that appends to a regular file, which is created if it is not there.

    Raises:
        OutputError: if it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        return FileSink(descriptor, path, os.fstat(descriptor).st_size)
    except OSError as e:
        raise OutputError(f"cannot write to {path}: {e.strerror}") from e


def open_device(path: Path) -> StreamSink:
    """Return a sink for a named pipe or a device, such as /dev/null.

    Raises:
        OutputError: if it cannot be opened.
    """
    try:
        return StreamSink(os.open(path, os.O_WRONLY | os.O_CLOEXEC), str(path))
    except OSError as e:
        raise OutputError(f"cannot write to {path}: {e.strerror}") from e


class OutputLock:
    """Keeps a second process off an output for as long as this one writes it.

    The lock is a file beside the output that names its holder; it goes when the lock does, and
    one that a killed process left behind holds nobody off.
    """

    def __init__(self, output: Path) -> None:
        """Name the lock of an output; nothing is taken yet."""
        from filelock import FileLock

        self.output = output
        self.path = output.with_name(f".{output.name}.lock")
        self._lock = FileLock(self.path)

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            OutputError: if another process holds it (named in the message), or it cannot be made.
        """
        from filelock import Timeout

        if not self.path.parent.is_dir():  # filelock would make it: on a disk that is not mounted, say
            raise OutputError(f"cannot write to {self.output}: there is no folder {self.path.parent}")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(f"{self.output} is being written by {self._holder()}") from None
        except OSError as e:
            raise OutputError(f"cannot write beside {self.output}: {e.strerror}") from e
        # A holder who let go also unlinked the file; filelock checks that ours is the one at the path.
        with contextlib.suppress(OSError):
            self.path.write_text(json.dumps({"pid": os.getpid(), "command": sys.argv}), encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the file and let go."""
        with contextlib.suppress(OSError):  # Windows does not remove what is open
            self.path.unlink()
        self._lock.release()

    def _holder(self) -> str:
        try:
            holder = json.loads(self.path.read_text(encoding="utf-8"))
            return f"another clipmod, process {holder['pid']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
