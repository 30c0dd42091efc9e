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
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

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
    clean_name,
    decompressed,
    new_zstd,
)

END = struct.Struct("<4s4H2LH")
"""Disks, counts, the directory's length and offset, length of the comment (4.3.16 of APPNOTE.TXT)."""
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR_64_BYTES = 20
RECORD = struct.Struct("<5xB2x2H4x3L3H4x2L")
"""System, flags, method, CRC, packed and unpacked size, three lengths, attributes, offset (4.3.12)."""

MAX_COMMENT_BYTES = 0xFFFF
UNKNOWN_32 = 0xFFFFFFFF
"""A 32-bit field whose value is in the zip64 extra field."""

ZIP64_EXTRA = 0x0001
UTF8_NAME = 0x0800
UNIX_SYSTEMS = (3, 19)
"""Unix and macOS write a file's mode into the upper half of its external attributes."""

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
    directory = _find_directory(file, size)
    reader = _Reader(file, directory.start, budget)
    count = 0
    for record in _read_records(file, directory):
        budget.count_entry()
        count += 1
        if record.size or not record.name.endswith("/"):  # not a folder
            yield ArchiveEntry(
                name=record.name,
                kind="link" if stat.S_ISLNK(record.mode) else "file",
                size=record.size,
                open=partial(reader.open, record),
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


@dataclass(frozen=True, slots=True)
class Directory:
    """The place of the directory, the bytes before the archive, and the count of records modulo `modulus`."""

    start: int
    end: int
    shift: int
    count: int
    modulus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipRecord:
    """One entry of the directory; sizes and offset in bytes, `mode` 0 if there is none."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int


def _find_directory(file: BinaryIO, size: int) -> Directory:
    """Return where the directory is, by the end record, which is the file's last."""
    start = max(0, size - END.size - MAX_COMMENT_BYTES)
    file.seek(start)
    tail = file.read(size - start)
    at = _find_end(tail)
    _, disk, first_disk, _, count, length, offset, _ = END.unpack_from(tail, at)
    end, modulus = start + at, 1 << 16
    if wide := _find_end_64(file, end):
        end, count, length, offset = wide
        modulus = 1 << 64
    elif disk or first_disk:
        raise ContainerError("archive_error", "it is one part of a split archive: join the parts first")
    begin = end - length
    if begin < offset:
        raise ContainerError("archive_error", "its directory lies outside the file")
    return Directory(begin, end, begin - offset, count, modulus)


def _find_end(tail: bytes) -> int:
    at = tail.rfind(b"PK\5\6")
    while at >= 0:
        comment = tail[at + END.size - 2 : at + END.size]
        if len(comment) == 2 and at + END.size + int.from_bytes(comment, "little") <= len(tail):
            return at
        at = tail.rfind(b"PK\5\6", 0, at)
    raise ContainerError("archive_error", "it has no directory: it is truncated or damaged")


def _find_end_64(file: BinaryIO, end: int) -> tuple[int, int, int, int] | None:
    """Return (place, count, directory's length, its offset) of the zip64 end record, if there is one."""
    at = end - LOCATOR_64_BYTES - END_64.size
    if at < 0:
        return None
    file.seek(at)
    data = file.read(END_64.size + LOCATOR_64_BYTES)
    if data[END_64.size :][:4] != b"PK\6\7":
        return None
    signature, *_, count, length, offset = END_64.unpack_from(data)
    if signature != b"PK\6\6":
        raise ContainerError("archive_error", "its zip64 end record is damaged")
    return at, count, length, offset


def _read_records(file: BinaryIO, directory: Directory) -> Iterator[ZipRecord]:
    """Yield the records in order. Memory does not grow with their number."""
    at = directory.start
    while at < directory.end:
        file.seek(at)
        fixed = file.read(RECORD.size)
        if len(fixed) < RECORD.size or not fixed.startswith(b"PK\1\2"):
            raise ContainerError("archive_error", "its directory is damaged")
        system, flags, method, crc, packed, size, *lengths, outer, offset = RECORD.unpack(fixed)
        at += RECORD.size + sum(lengths)
        if at > directory.end:
            raise ContainerError("archive_error", "its directory is damaged")
        name = file.read(lengths[0])
        packed, size, offset = _widen(file.read(lengths[1]), packed, size, offset)
        yield ZipRecord(
            name=_as_text(clean_name(name), flags),
            flags=flags,
            method=method,
            crc=crc,
            packed=packed,
            size=size,
            offset=offset + directory.shift,
            mode=outer >> 16 if system in UNIX_SYSTEMS else 0,
        )


def _widen(extras: bytes, packed: int, size: int, offset: int) -> tuple[int, int, int]:
    """Return the fields, those over 32 bits from the zip64 extra field (4.5.3), if there is one."""
    at, data = 0, b""
    while at + 4 <= len(extras):
        kind, length = struct.unpack_from("<HH", extras, at)
        if kind == ZIP64_EXTRA:
            data = extras[at + 4 : at + 4 + length]
            break
        at += 4 + length
    wide = (value for (value,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8]))
    size, packed, offset = (
        next(wide, value) if value == UNKNOWN_32 else value for value in (size, packed, offset)
    )
    return packed, size, offset


def _as_text(name: bytes, flags: int) -> str:
    """Return a name; without the flag most programs still write UTF-8, old ones CP437."""
    if flags & UTF8_NAME:
        return name.decode(errors="surrogateescape")
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")
