"""The central directory of a zip archive, found and read record by record.

Memory does not grow with its length. `clipmod_cli.sources.archives.zip_reader` reads the entries and checks
them against the records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from clipmod_cli.sources.archives.limits import ContainerError
from clipmod_cli.sources.archives.streams import clean_name

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


@dataclass(frozen=True, slots=True)
class Directory:
    """The place of the directory.

    Attributes:
        shift: bytes before the archive in the file.
        count: records that it declares, modulo `modulus`.
    """

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


def find_directory(file: BinaryIO, size: int) -> Directory:
    """Return where the directory is, by the end record, which is the file's last; raises ContainerError."""
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


def read_records(file: BinaryIO, directory: Directory) -> Iterator[ZipRecord]:
    """Yield the records in order; raises ContainerError at the first damaged one."""
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
    """Return the fields, those over 32 bits from the zip64 extra field (4.5.3)."""
    wide = iter(_find_extra(extras, ZIP64_EXTRA))
    size, packed, offset = (
        next(wide, value) if value == UNKNOWN_32 else value for value in (size, packed, offset)
    )
    return packed, size, offset


def _find_extra(extras: bytes, field_id: int) -> list[int]:
    """Return the 64-bit numbers in an extra field; none if it is missing."""
    at = 0
    while at + 4 <= len(extras):
        kind, length = struct.unpack_from("<HH", extras, at)
        if kind == field_id:
            data = extras[at + 4 : at + 4 + length]
            return [value for (value,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8])]
        at += 4 + length
    return []


def _as_text(name: bytes, flags: int) -> str:
    """Return a name; without the flag most programs still write UTF-8, old ones CP437."""
    if flags & UTF8_NAME:
        return name.decode(errors="surrogateescape")
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")
