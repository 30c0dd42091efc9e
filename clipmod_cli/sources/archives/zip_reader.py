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
from clipmod_cli.sources.archives.zip_layout import (
    ENCRYPTED,
    END,
    LOCAL,
    UNKNOWN_16,
    UNKNOWN_32,
    UTF8_NAME,
    ZipLayout,
    ZipRecord,
    unicode_names,
    widen,
)

END_64 = struct.Struct("<4sQ2x2x2L4Q")
"""Length of the rest, disks, counts, the directory's length and offset (4.3.14 of APPNOTE.TXT)."""
LOCATOR_64 = struct.Struct("<4s4xQ4x")
"""Where the zip64 end record is (4.3.15)."""
RECORD = struct.Struct("<5xB2x2H4x3L3H4x2L")
"""System, flags, method, CRC, packed and unpacked size, three lengths, attributes, offset (4.3.12)."""

MAX_COMMENT_BYTES = 0xFFFF
UNIX_SYSTEMS = (3, 19)
"""Unix and macOS write a file's mode into the upper half of its external attributes."""

LZMA_HEADER = struct.Struct("<2xHBL")
"""Length of the properties, which are lc, lp and pb in one byte and the dictionary's size (5.8.8)."""

STORED, AES = 0, 99
MIN_DICTIONARY_BYTES = 4096
"""liblzma refuses smaller ones, which the format allows."""


def zip_entries(file: BinaryIO, size: int, budget: ArchiveBudget) -> Iterator[ArchiveEntry]:
    """Yield the entries of a zip archive of `size` bytes; the file's position changes.

    Raises ContainerError where its directory is damaged or false, and BudgetExceeded.
    """
    directory = _find_directory(file, size)
    reader = _Reader(file, directory.start, budget)
    layout = ZipLayout(file, size, budget)
    count = 0
    for record in _read_records(file, directory):
        budget.count_entry()
        count += 1
        layout.add(record)
        if record.size or not record.name.endswith("/"):  # not a folder
            yield ArchiveEntry(
                name=record.name,
                kind="link" if stat.S_ISLNK(record.mode) else "file",
                size=record.size,
                open=partial(reader.open, record),
            )
        reader.check_overlap()
    for declared in directory.counts:
        if count % directory.modulus != declared:
            raise ContainerError("archive_error", f"its directory lists {count} of {declared} entries")
    if problem := layout.find_problem(directory.start, directory.end, directory.end_record):
        raise ContainerError("archive_error", f"programs may read it differently: {problem}")


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
        flags, *_, name, extra = LOCAL.unpack(header)
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
    """The place of the directory, the bytes before the archive, two counts of records modulo `modulus`."""

    start: int
    end: int
    end_record: int
    shift: int
    counts: tuple[int, int]
    modulus: int


def _find_directory(file: BinaryIO, size: int) -> Directory:
    """Return where the directory is, by the end record, which is the file's last."""
    start = max(0, size - END.size - MAX_COMMENT_BYTES)
    file.seek(start)
    tail = file.read(size - start)
    at = _find_end(tail)
    _, disk, first_disk, here, count, length, offset, _ = END.unpack_from(tail, at)
    end = end_record = start + at
    modulus = 1 << 16
    if wide := _find_end_64(file, end_record):
        end, *fields = wide
        for narrow, value, unknown in zip(
            (disk, first_disk, here, count, length, offset), fields, (*[UNKNOWN_16] * 4, *[UNKNOWN_32] * 2),
            strict=True,
        ):  # fmt: skip
            if narrow not in (value, unknown):
                raise ContainerError("archive_error", "its two end records (32-bit and zip64) differ")
        disk, first_disk, here, count, length, offset = fields
        modulus = 1 << 64
    if disk or first_disk:
        raise ContainerError("archive_error", "it is one part of a split archive: join the parts first")
    begin = end - length
    if begin < offset:
        raise ContainerError("archive_error", "its directory lies outside the file")
    return Directory(begin, end, end_record, begin - offset, (count, here), modulus)


def _find_end(tail: bytes) -> int:
    """Return where the last end record is that fits; raises ContainerError if there is none, or another."""
    found: int | None = None
    at = tail.rfind(b"PK\5\6")
    while at >= 0:
        comment = tail[at + END.size - 2 : at + END.size]
        end = at + END.size + int.from_bytes(comment, "little")
        if len(comment) == 2 and found is None and end <= len(tail):
            found = at
        elif len(comment) == 2 and end == len(tail):
            raise ContainerError("archive_error", "programs may read it differently: it has two end records")
        at = tail.rfind(b"PK\5\6", 0, at)
    if found is None:
        raise ContainerError("archive_error", "it has no directory: it is truncated or damaged")
    return found


def _find_end_64(file: BinaryIO, end: int) -> tuple[int, ...] | None:
    """Return (place, disks, counts, directory's length, its offset) of the zip64 end record, if there is one.

    It ends at its locator, which stands before the 32-bit end record at `end`.
    """
    until = end - LOCATOR_64.size
    if until < 0:
        return None
    signature, told = LOCATOR_64.unpack(_read_at(file, until, LOCATOR_64.size))
    if signature != b"PK\6\7":
        return None
    # Where the locator says, or behind a stub that it does not count. One that is longer holds private data.
    found = {}
    for at in {told, until - END_64.size}:
        data = _read_at(file, at, END_64.size) if 0 <= at <= until - END_64.size else b""
        if data.startswith(b"PK\6\6"):
            _, rest, *fields = END_64.unpack(data)
            if at + 12 + rest == until:
                found[at] = (at, *fields)
    if len(found) != 1:
        raise ContainerError("archive_error", "its zip64 end record is damaged")
    return next(iter(found.values()))


def _read_at(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    return file.read(length)


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
        extras = file.read(lengths[1])
        packed, size, offset = widen(extras, packed, size, offset)
        yield ZipRecord(
            name=_as_text(clean_name(name), flags),
            raw_name=name,
            other_names=unicode_names(extras),
            flags=flags,
            method=method,
            crc=crc,
            packed=packed,
            size=size,
            offset=offset + directory.shift,
            mode=outer >> 16 if system in UNIX_SYSTEMS else 0,
        )


def _as_text(name: bytes, flags: int) -> str:
    """Return a name; without the flag most programs still write UTF-8, old ones CP437."""
    if flags & UTF8_NAME:
        return name.decode(errors="surrogateescape")
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")
