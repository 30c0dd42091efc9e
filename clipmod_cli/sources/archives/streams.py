"""The bytes of archives: a window of a file, decompressed, metered, read with one piece in memory at a time.

Exceptions of the decompression libraries become `ItemError`s here.
"""

from __future__ import annotations

import bz2
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias

from clipmod_cli.decode.formats import sniff
from clipmod_cli.errors import ItemError
from clipmod_cli.sources.archives.limits import TRUNCATED, RatioMeter

if TYPE_CHECKING:
    from backports.zstd import ZstdDecompressor

PIECE_BYTES = 1 << 17
"""Large enough to make calls cheap, small enough to stop a bomb at once."""

DICTIONARY_BYTES = 1 << 27
"""128 MiB: the limit of `zstd` itself; `xz -9` needs half. A larger one is an attack."""

GZIP_WBITS = 31
DEFLATE_WBITS = -15
SIGNATURE_BYTES = 6
"""The longest signature of a compressed stream. More must not be compared: another format may follow."""

ZSTD_SKIPPABLE_FIRST, ZSTD_SKIPPABLE = 0x5, b"\x2a\x4d\x18"
"""A frame of any content (its first byte is 0x50 to 0x5f) that may precede frames of data."""

MAX_NAME_BYTES = 4096
"""No file system allows a longer path; a name of megabytes would be written into every record."""


class FileWindow:
    """A range of a file, read once from beginning to end, whatever the file's position."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file = file
        self._at = start
        self.left = length  # bytes not read or skipped yet
        self.consumed = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; fewer only at the end of the window or the file."""
        self._file.seek(self._at)
        data = self._file.read(min(size, self.left)) or b""
        self._at += len(data)
        self.left -= len(data)
        self.consumed += len(data)
        return data

    def skip(self, size: int) -> None:
        """Skip `size` bytes without reading them; raises ItemError if there are fewer."""
        if size > self.left:
            raise ItemError("archive_error", TRUNCATED)
        self._at += size
        self.left -= size

    def pieces(self, meter: RatioMeter) -> Iterator[bytes]:
        """Yield the bytes, uncompressed."""
        while piece := self.read(PIECE_BYTES):
            meter.count(len(piece), self.consumed)
            yield piece


class Inflate:
    """`zlib` with the interface of the others."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        """The input after the end of the stream."""
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most `max_length` bytes."""
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # After a full piece zlib may hold more output, though it took all the input.
        self.needs_input = len(out) < max_length and not self._inner.unconsumed_tail
        return out


def new_zstd() -> Decompressor:
    """Return a decompressor of one zstd frame."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    largest = DICTIONARY_BYTES.bit_length() - 1
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: largest})


Decompressor: TypeAlias = "Inflate | bz2.BZ2Decompressor | lzma.LZMADecompressor | ZstdDecompressor"

_DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    "GZIP": lambda: Inflate(GZIP_WBITS),
    "BZIP2": bz2.BZ2Decompressor,
    "XZ": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DICTIONARY_BYTES),
    "ZSTD": new_zstd,
}
"""By format, as `formats.sniff` names it."""


def decompressed(
    window: FileWindow, inner: Decompressor, meter: RatioMeter, data: bytes = b""
) -> Iterator[bytes]:
    """Yield the content of one compressed stream, which begins with `data`, to its end or the window's.

    Raises:
        ItemError: if it is damaged or exceeds the ratio.
    """
    while not inner.eof:
        if not data and inner.needs_input and not (data := window.read(PIECE_BYTES)):
            return
        piece = _decompress(inner, data)
        data = b""
        meter.count(len(piece), window.consumed)
        if piece:
            yield piece


def unpacked(window: FileWindow, name: str, meter: RatioMeter) -> Iterator[bytes]:
    """Yield the content of a compressed file of the format `name`; consecutive streams are concatenated.

    Raises:
        ItemError: if it is damaged or truncated, other data follows it, or it exceeds the ratio.
    """
    first: bytes | None = b""
    while first is not None:
        inner = _DECOMPRESSORS[name]()
        yield from decompressed(window, inner, meter, first)
        if not inner.eof:
            raise ItemError("archive_error", TRUNCATED)
        meter.count(0, window.consumed)
        first = _next_stream(window, inner.unused_data, name)


def _next_stream(window: FileWindow, rest: bytes, name: str) -> bytes | None:
    """Return the beginning of a further stream after padding of zeros; None at the end of the file.

    Raises ItemError for other data, which some tools ignore and others read.
    """
    rest = rest.lstrip(b"\0")
    while len(rest) < SIGNATURE_BYTES and (more := window.read(PIECE_BYTES)):
        rest = (rest + more).lstrip(b"\0")
    if rest and not _is_stream(rest[:SIGNATURE_BYTES], name):
        raise ItemError("archive_error", "other data follows its compressed content")
    return rest or None


def _is_stream(head: bytes, name: str) -> bool:
    skippable = name == "ZSTD" and head[1:4] == ZSTD_SKIPPABLE and head[0] >> 4 == ZSTD_SKIPPABLE_FIRST
    known = sniff(head)
    return skippable or (known is not None and known.name == name)


def _decompress(inner: Decompressor, data: bytes) -> bytes:
    try:
        return inner.decompress(data, PIECE_BYTES)
    except MemoryError as error:
        raise ItemError("out_of_memory", "there is not enough memory to decompress it") from error
    except Exception as error:  # each library has its own exceptions
        raise ItemError("archive_error", f"it cannot be decompressed: {error}") from error


class PieceStream:
    """Pieces read like a file: any number of bytes at a time, forward only."""

    def __init__(self, pieces: Iterator[bytes], window: FileWindow | None = None) -> None:
        """Read `pieces`; `window` is their source if they are its uncompressed bytes."""
        self._pieces = pieces
        self._window = window
        self._piece = b""
        self._at = 0

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end, without consuming them."""
        while len(self._piece) - self._at < size and (more := next(self._pieces, b"")):
            self._piece = self._piece[self._at :] + more
            self._at = 0
        return self._piece[self._at : self._at + size]

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        if self._at + size <= len(self._piece):
            self._at += size
            return self._piece[self._at - size : self._at]
        gathered = io.BytesIO()  # joining a list of pieces would need the memory twice
        while size and (part := self._next(size)):
            size -= gathered.write(part)
        return gathered.getvalue()

    def skip(self, size: int) -> None:
        """Skip `size` bytes; raises ItemError if there are fewer."""
        here = min(size, len(self._piece) - self._at)
        self._at += here
        size -= here
        if size and self._window is not None:
            self._window.skip(size)
            return
        while size:
            part = self._next(size)
            if not part:
                raise ItemError("archive_error", TRUNCATED)
            size -= len(part)

    def _next(self, most: int) -> bytes:
        """Return at least one byte and at most `most`; none at the end."""
        if self._at == len(self._piece):
            self._piece = next(self._pieces, b"")
            self._at = 0
        part = self._piece[self._at : self._at + most]
        self._at += len(part)
        return part


EntryKind: TypeAlias = Literal["file", "link", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveEntry:
    """One entry of an archive, not read yet.

    Attributes:
        name: as text; what is not UTF-8 holds surrogate escapes. Never a path of this machine.
        kind: `link` should have no content of its own; `other` is a device or a pipe.
        size: the declared length in bytes, None if nothing is declared.
        whole: it is the only content of a compressed file, so no filter applies to it.
        open: returns the content, to be read before the next entry. Raises ItemError.
    """

    name: str
    kind: EntryKind
    size: int | None
    open: Callable[[], PieceStream]
    whole: bool = False


def clean_name(raw: bytes) -> bytes:
    """Return a name up to its first NUL, at most `MAX_NAME_BYTES` long."""
    return raw.partition(b"\0")[0][:MAX_NAME_BYTES]
