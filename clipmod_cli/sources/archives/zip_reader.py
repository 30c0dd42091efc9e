"""The entries of a zip archive, in the order of its directory, read as streams.

`zipfile` holds the whole directory in memory and trusts its sizes; here every byte is counted. Names stay
text; the choice of entries is left to `clipmod_cli.sources.archives.walk`. The format is PKWARE's
APPNOTE.TXT 6.3.10, whose sections are given beside the numbers.
"""

from __future__ import annotations

import bz2
import lzma
import stat
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, Literal

from clipmod_cli.errors import ItemError
from clipmod_cli.sources.archives.limits import TRUNCATED, ArchiveBudget, ContainerError, RatioMeter
from clipmod_cli.sources.archives.streams import (
    DEFLATE_WBITS,
    DICTIONARY_BYTES,
    ArchiveEntry,
    Decompressor,
    FileWindow,
    Inflate,
    PieceStream,
    decompressed,
    new_zstd,
)
from clipmod_cli.sources.archives.zip_directory import ZipRecord, find_directory, read_records

LOCAL = struct.Struct("<6xH18x2H")
"""Flags, and the lengths of name and extra field (4.3.7)."""
LZMA_HEADER = struct.Struct("<2xHBL")
"""Length of the properties, which are lc, lp and pb in one byte and the dictionary's size (5.8.8)."""

ENCRYPTED = 0x0001
STORED, AES = 0, 99
MIN_DICTIONARY_BYTES = 4096
"""liblzma refuses smaller ones, which the format allows."""


def zip_entries(file: BinaryIO, size: int, budget: ArchiveBudget) -> Iterator[ArchiveEntry]:
    """Yield the entries of a zip archive of `size` bytes; the file's position changes.

    Raises ContainerError where its directory is damaged or false, and BudgetExceeded.
    """
    directory = find_directory(file, size)
    reader = _Reader(file, directory.start, budget)
    count = 0
    for record in read_records(file, directory):
        budget.count_entry()
        count += 1
        yield ArchiveEntry(
            name=record.name, kind=_kind(record), size=record.size, open=partial(reader.open, record)
        )
        reader.check_overlap()
    if count % directory.modulus != directory.count:
        raise ContainerError("archive_error", f"its directory lists {count} of {directory.count} entries")
    if directory.shift:
        # Such as a truncated archive whose last member is a zip itself.
        raise ContainerError(
            "archive_error", f"its directory does not cover the first {directory.shift:,} bytes"
        )
    if not count and directory.start:
        raise ContainerError("archive_error", "its directory is empty, but the archive is not")


def _kind(record: ZipRecord) -> Literal["file", "folder", "link"]:
    if record.name.endswith("/") and not record.size:
        return "folder"
    return "link" if stat.S_ISLNK(record.mode) else "file"


class _Reader:
    """Opens entries, and adds up how many bytes of the file they use."""

    def __init__(self, file: BinaryIO, end: int, budget: ArchiveBudget) -> None:
        self._file = file
        self._end = end
        self._budget = budget
        self._consumed = 0
        self._window: FileWindow | None = None

    def open(self, record: ZipRecord) -> PieceStream:
        """Return an entry's content; raises ItemError if it cannot be read."""
        if record.flags & ENCRYPTED or record.method == AES:
            raise ItemError("encrypted", "it is encrypted, and there is no password")
        self._window = window = self._find(record)
        meter = RatioMeter(self._budget, self._budget.limits.free_bytes)
        if record.method == STORED:
            return PieceStream(_checked(window.pieces(meter), record))
        return PieceStream(_checked(decompressed(window, _decompressor(record, window), meter), record))

    def check_overlap(self) -> None:
        """Raise ContainerError if more bytes were used than there are: some were used twice."""
        self._consumed += self._window.consumed if self._window else 0
        self._window = None
        if self._consumed > self._end:
            raise ContainerError("archive_error", "its entries overlap (zip bomb)")

    def _find(self, record: ZipRecord) -> FileWindow:
        header = FileWindow(self._file, record.offset, LOCAL.size).read(LOCAL.size)
        if len(header) < LOCAL.size or not header.startswith(b"PK\3\4"):
            raise ItemError("archive_error", "it is not at the offset in the archive's directory")
        flags, name, extra = LOCAL.unpack(header)
        if flags & ENCRYPTED:
            raise ItemError("encrypted", "it is encrypted, and there is no password")
        start = record.offset + LOCAL.size + name + extra
        if start + record.packed > self._end:
            raise ItemError(
                "archive_error", "it reaches beyond the archive's end: it is truncated or damaged"
            )
        return FileWindow(self._file, start, record.packed)


def _decompressor(record: ZipRecord, window: FileWindow) -> Decompressor:
    match record.method:
        case 8:
            return Inflate(DEFLATE_WBITS)
        case 12:
            return bz2.BZ2Decompressor()
        case 14:
            return _lzma(window)
        case 93:
            return new_zstd()
        case method:
            raise ItemError("archive_error", f"its compression (method {method}) is not supported")


def _lzma(window: FileWindow) -> Decompressor:
    header = window.read(LZMA_HEADER.size)
    if len(header) < LZMA_HEADER.size:
        raise ItemError("archive_error", TRUNCATED)
    _, properties, dictionary = LZMA_HEADER.unpack(header)
    if dictionary > DICTIONARY_BYTES:
        raise ItemError("archive_limit", f"decompressing it needs {dictionary / 1e6:.0f} MB of memory")
    position, rest = divmod(properties, 45)
    literal_position, literal = divmod(rest, 9)
    lzma_filter = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": max(dictionary, MIN_DICTIONARY_BYTES),
        "lc": literal,
        "lp": literal_position,
        "pb": position,
    }
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[lzma_filter])
    except (lzma.LZMAError, ValueError) as error:
        raise ItemError("archive_error", f"it cannot be decompressed: {error}") from error


def _checked(pieces: Iterator[bytes], record: ZipRecord) -> Iterator[bytes]:
    """Yield the pieces; raises ItemError if they differ from length or checksum in the directory."""
    length = checksum = 0
    for piece in pieces:
        length += len(piece)
        checksum = zlib.crc32(piece, checksum)
        if length > record.size:
            raise ItemError("archive_error", f"it is longer than the {record.size:,} bytes that it declares")
        yield piece
    if length != record.size:
        raise ItemError("archive_error", f"it ends after {length:,} of {record.size:,} bytes")
    if checksum != record.crc:
        raise ItemError("archive_error", "its checksum does not match: it is damaged")
