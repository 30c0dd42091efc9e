"""JSON Lines to a file, plain or compressed, or to a stream. A line is written whole or not at all.

An existing file is read in `clipmod_cli.output.resuming.resume`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from clipmod_cli.errors import OutputError, OutputMismatchError
from clipmod_cli.output.resuming.files import Compression, check_compression, member_of
from clipmod_cli.output.resuming.removed import put_back, removed_path
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions, read_done
from clipmod_cli.records import Record

log = logging.getLogger(__name__)

SYNC_RECORDS = 1000
SYNC_SECONDS = 2.0
"""The most that a power cut can lose. Syncing every record is as slow as the disk."""


@dataclass
class StreamSink:
    """A pipe, terminal or device, which cannot be truncated, synced or resumed."""

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
        """Close the descriptor."""
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
        """Append one line; a partly written one is truncated."""
        self._append(line)
        self._unsynced += 1
        if self._unsynced >= SYNC_RECORDS or time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self.sync()

    def close(self) -> None:
        """Sync and close."""
        try:
            self.sync()
        finally:
            os.close(self.descriptor)

    def _append(self, content: bytes) -> None:
        try:
            written = os.write(self.descriptor, content)
        except OSError as e:
            self._truncate()
            raise OutputError(f"cannot write to {self.path}: {e.strerror}") from e
        if written < len(content):
            self._truncate()
            raise OutputError(f"cannot write to {self.path}: the disk is full")
        self.size += written

    def _truncate(self) -> None:
        with contextlib.suppress(OSError):  # the next run removes a torn line
            os.ftruncate(self.descriptor, self.size)

    def sync(self) -> None:
        """Write to the disk what was appended."""
        try:
            os.fsync(self.descriptor)
        except OSError as e:
            raise OutputError(f"cannot write {self.path} to disk: {e.strerror}") from e
        self._unsynced = 0
        self._synced_at = time.monotonic()


@dataclass
class CompressedSink(FileSink):
    """A file that is appended to by one member for the lines of each sync. Until then they are in memory.

    `compression` is gzip or zstd.
    """

    compression: Compression = "gzip"
    _waiting: list[bytes] = field(default_factory=list)

    def sync(self) -> None:
        """Compress what was written since the last time, and write it to the disk."""
        lines, self._waiting = b"".join(self._waiting), []
        if lines:
            super()._append(member_of(lines, self.compression))
        super().sync()

    def _append(self, content: bytes) -> None:
        self._waiting.append(content)


def is_regular(path: Path) -> bool:
    """Return whether the path is, or would become, a regular file (not a device or a named pipe)."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True
    except OSError as e:
        raise OutputError(f"cannot write to {path}: {e.strerror}") from e


def open_file(path: Path, compression: Compression = "none") -> FileSink:
    """Return a sink that appends to a regular file, which is created if it does not exist.

    Raises:
        OutputError: it cannot be opened.
    """
    descriptor = _open(path, os.O_APPEND | os.O_CREAT)
    size = os.fstat(descriptor).st_size
    if compression == "none":
        return FileSink(descriptor, path, size)
    return CompressedSink(descriptor, path, size, compression=compression)


def open_device(path: Path) -> StreamSink:
    """Return a sink for a named pipe or a device, such as /dev/null.

    Raises:
        OutputError: it cannot be opened.
    """
    return StreamSink(_open(path, 0), str(path))


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o666)
    except OSError as e:
        raise OutputError(f"cannot write to {path}: {e.strerror}") from e


def clear_or_refuse(path: Path, options: ResumeOptions) -> None:
    """Empty an existing output with `overwrite`, or refuse one that must not be continued.

    Raises:
        OutputMismatchError: it has content, and `resume` is `no`.
        OutputError: it cannot be written.
    """
    try:
        if options.overwrite and path.exists():
            os.truncate(path, 0)
            removed_path(path).unlink(missing_ok=True)
        elif options.resume == "no" and path.exists() and path.stat().st_size:
            raise OutputMismatchError(
                f"{path} exists; --overwrite discards its content, --resume continues it"
            )
    except OSError as e:
        raise OutputError(f"cannot write to {path}: {e.strerror}") from e


class JsonlSink:
    """JSON Lines to a file, which a later run can continue, or to a named pipe or device, which none can."""

    _lines: FileSink | StreamSink

    def __init__(self, path: Path, options: ResumeOptions, *, compression: Compression = "none") -> None:
        self.lines_path = path
        self._options = options
        self._compression = compression
        self._done: DoneInputs | None = None  # of a regular file
        self._start = 0

    def begin(self, run_key: str) -> DoneInputs:
        """Open the file, after removing the records of inputs to judge again; see `read_done`."""
        path = self.lines_path
        if not is_regular(path):
            self._lines = open_device(path)
            return DoneInputs()
        clear_or_refuse(path, self._options)
        try:
            check_compression(path, self._compression)
        except OSError as e:
            raise OutputError(f"cannot read or change {path}: {e.strerror}") from e
        done = self._done = read_done(path, run_key, self._options)
        lines = self._lines = open_file(path, self._compression)
        self._start = lines.size
        return done

    def write(self, record: Record, line: bytes) -> None:  # noqa: ARG002
        """Write the line."""
        self._lines.write(line)

    def close(self) -> None:
        """Sync and close, and put back the removed records whose inputs were not judged again."""
        self._lines.close()
        if self._done is None:
            return
        try:
            count = put_back(self.lines_path, self._done, start=self._start, on_back=self._options.on_done)
        except OSError as e:
            raise OutputError(f"cannot write to {self.lines_path}: {e.strerror}") from e
        if count:
            log.warning("%d records to judge again stay as they were: this run did not come to them", count)

    def complete(self) -> None:
        """Change nothing: the lines are the output."""
