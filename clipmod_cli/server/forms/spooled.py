"""The bytes of one request: some in memory, the rest in one temporary file.

One file descriptor a request, however many files it has. The file is unnamed where the system allows that,
and is deleted with the request.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Final, NamedTuple, Self, TypeAlias

NO_ROOM: Final = "Not enough room for this request: the temporary folder takes no more"
"""The answer to a request whose body cannot be kept."""

MEMORY_BYTES: Final = 8_000_000
"""In memory for one request: two photographs. 64 concurrent requests hold half a gigabyte."""


class Extent(NamedTuple):
    """The place of a piece in the file."""

    offset: int
    length: int


Piece: TypeAlias = bytes | Extent


class SpooledPieces:
    """Stores pieces of bytes. Safe to use from any thread; a context manager."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._free = memory_bytes
        self._file: IO[bytes] | None = None
        self._length = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()

    def hold(self, data: bytes) -> Piece | None:
        """Return the bytes if memory has room for them; None if they must be `put`."""
        with self._lock:
            if len(data) > self._free:
                return None
            self._free -= len(data)
            return data

    def put(self, data: bytes) -> Piece:
        """Store bytes in memory if there is room, else in the file; blocks.

        Raises:
            OSError: the temporary folder is full.
        """
        held = self.hold(data)
        return self._write(data) if held is None else held

    def get(self, pieces: Sequence[Piece]) -> bytes:
        """Return the joined bytes of these pieces; blocks if they are in the file.

        Raises:
            OSError: the file cannot be read.
        """
        return b"".join(piece if isinstance(piece, bytes) else self._read(piece) for piece in pieces)

    def drop(self, pieces: Sequence[Piece]) -> None:
        """Release the memory of these pieces."""
        with self._lock:
            self._free += sum(len(piece) for piece in pieces if isinstance(piece, bytes))

    def _write(self, data: bytes) -> Extent:
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="clipmod-")  # noqa: SIM115 - closed in __exit__
            extent = Extent(self._length, len(data))
            self._file.seek(extent.offset)
            self._file.write(data)
            self._length += len(data)
            return extent

    def _read(self, extent: Extent) -> bytes:
        with self._lock:
            if self._file is None or self._file.closed:
                raise OSError("the request is over")
            self._file.seek(extent.offset)
            data = self._file.read(extent.length)
        if len(data) != extent.length:
            raise OSError("the temporary file is shorter than what was written to it")
        return data
