"""What a zip archive holds beside the entries that its directory lists, and where the two disagree.

Programs read a zip by its directory, by its local headers, or by another end record. Where these could show
another file, the archive is reported. Free to differ: the code before a self-extracting archive, signatures
of packages, padding between entries.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from clipmod_cli.sources.archives.limits import ArchiveBudget

LOCAL = struct.Struct("<6x2H4x3L2H")
"""Flags, method, CRC, packed and unpacked size, lengths of name and extra field (4.3.7 of APPNOTE.TXT)."""
CENTRAL = struct.Struct("<10xH16xH12xL")
"""Method, length of the name, offset."""
END = struct.Struct("<4s4H2LH")
"""Disks, counts, the directory's length and offset, length of the comment (4.3.16)."""

ENCRYPTED, DEFERRED, UTF8_NAME, MASKED = 0x0001, 0x0008, 0x0800, 0x2000
"""Flags; DEFERRED: sizes and CRC follow the content in a data descriptor (4.3.9)."""

UNKNOWN_16, UNKNOWN_32 = 0xFFFF, 0xFFFFFFFF
"""Values of fields that a zip64 record or extra field replaces."""

ZIP64_EXTRA, UNICODE_PATH_EXTRA = 0x0001, 0x7075
METHODS = frozenset({*range(21), *range(92, 100)})
"""Of compression (4.4.5). Bytes with another one are no header, but code or text that holds its signature."""

SIGNATURE = re.compile(rb"PK(?:\x03\x04|\x01\x02|\x05\x06|\x06\x06)")
SIGNATURE_BYTES = 4
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipRecord:
    """One entry of the directory; sizes and offset in bytes, `mode` 0 if there is none.

    `other_names` are those that some programs prefer to `raw_name`.
    """

    name: str
    raw_name: bytes
    other_names: tuple[bytes, ...]
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int


def widen(extras: bytes, packed: int, size: int, offset: int = 0) -> tuple[int, int, int]:
    """Return the fields, those over 32 bits from the zip64 extra field (4.5.3), if there is one."""
    data = next((body for kind, body in _fields(extras) if kind == ZIP64_EXTRA), b"")
    wide = (value for (value,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8]))
    size, packed, offset = (
        next(wide, value) if value == UNKNOWN_32 else value for value in (size, packed, offset)
    )
    return packed, size, offset


def unicode_names(extras: bytes) -> tuple[bytes, ...]:
    """Return the names in Unicode path extra fields (4.6.9), whose checksum not all programs check."""
    return tuple(body[5:] for kind, body in _fields(extras) if kind == UNICODE_PATH_EXTRA)


def _fields(extras: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (kind, content) of extra fields (4.5.1)."""
    at = 0
    while at + 4 <= len(extras):
        kind, length = struct.unpack_from("<HH", extras, at)
        yield kind, extras[at + 4 : at + 4 + length]
        at += 4 + length


@dataclass(slots=True)
class ZipLayout:
    """The places of the entries that the directory lists; 16 bytes of memory for each.

    `problem` is the first disagreement of an entry with its local header.
    """

    file: BinaryIO
    size: int
    budget: ArchiveBudget
    problem: str | None = None
    _starts: array[int] = field(default_factory=lambda: array("Q"))
    _ends: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, record: ZipRecord) -> None:
        """Note an entry's place, and compare it with its local header; without one it cannot be opened."""
        header = self._read(record.offset, LOCAL.size)
        if len(header) < LOCAL.size or not header.startswith(b"PK\3\4"):
            return
        flags, method, crc, packed, size, name_length, extra_length = LOCAL.unpack(header)
        names = self._read(record.offset + LOCAL.size, name_length + extra_length)
        packed, size, _ = widen(names[name_length:], packed, size)
        end = record.offset + LOCAL.size + len(names) + record.packed
        found = self._descriptor(end, record) if flags & DEFERRED else 0
        self._starts.append(record.offset)
        self._ends.append(min(end + found, self.size))
        differs = list(_differences(record, names[:name_length], flags, method, (crc, packed, size)))
        others = (*record.other_names, *unicode_names(names[name_length:]))
        if any(_suffix(other) != _suffix(record.raw_name) for other in others):
            differs.append("name in Unicode")
        if flags & DEFERRED and record.packed and not found:
            differs.append("data descriptor")
        if differs and self.problem is None:
            which = ", ".join(differs)
            self.problem = f"the directory and the header of {record.name!r:.200} disagree ({which})"

    def find_problem(self, directory: int, directory_end: int, end: int) -> str | None:
        """Return why another program may find other content, or None; scans what no entry takes.

        The directory lies between the first two places; `end` is where the end record begins. Between them
        there is nothing, or a zip64 end record, which can hold private data.
        """
        if self.problem is not None:
            return self.problem
        at = 0
        for start, stop in sorted(zip(self._starts, self._ends, strict=True)):
            if start < at:
                return "its entries overlap"
            if found := self._scan(at, start):
                return found
            at = stop
        if at > directory:
            return "its entries overlap its directory"
        behind = self._scan(directory_end + SIGNATURE_BYTES, end) or self._scan(end + END.size, self.size)
        return self._scan(at, directory) or behind

    def _descriptor(self, at: int, record: ZipRecord) -> int:
        """Return the length of the data descriptor at a place, 0 if there is none that fits the record."""
        data = self._read(at, 24)
        for signature in (b"PK\7\x08", b""):
            for kind in ("<3L", "<L2Q"):
                length = len(signature) + struct.calcsize(kind)
                try:
                    wanted = signature + struct.pack(kind, record.crc, record.packed, record.size)
                except struct.error:
                    continue
                if data[:length] == wanted:
                    return length
        return 0

    def _scan(self, start: int, stop: int) -> str | None:
        """Return what stands between two places that a program may take for an entry or a directory."""
        for at, data in self._pieces(start, stop):
            for match in SIGNATURE.finditer(data):
                what = self._header_at(at + match.start(), data[match.start() :])
                if what:
                    return f"{what} at byte {at + match.start():,} that its directory does not list"
        return None

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Yield (place, bytes); each piece begins with the end of the one before, for headers across both."""
        overlap = 64
        while start < stop:
            self.budget.spend(0)
            data = self._read(start, min(PIECE_BYTES, stop - start))
            if not data:
                return
            yield start, data
            start += len(data) if start + len(data) >= stop or len(data) <= overlap else len(data) - overlap

    def _header_at(self, place: int, data: bytes) -> str | None:
        """Return what a header at a place is; None if these bytes are none, or one of an empty filler."""
        header = data[:64] if len(data) >= 64 else self._read(place, 64)
        match header[:4]:
            case b"PK\3\4" if len(header) >= LOCAL.size:
                flags, method, _, packed, size, name, extra = LOCAL.unpack_from(header)
                fits = place + LOCAL.size + name + extra <= self.size and method in METHODS
                holds = name or packed or size or flags & DEFERRED
                return "it has an entry" if fits and holds else None
            case b"PK\1\2" if len(header) >= CENTRAL.size:
                method, name, offset = CENTRAL.unpack_from(header)
                plausible = method in METHODS and name and (offset < self.size or offset == UNKNOWN_32)
                return "it has a directory" if plausible else None
            case b"PK\5\6" if len(header) >= END.size:
                _, disk, first, here, count, length, offset, _ = END.unpack_from(header)
                plausible = here == count and disk == first and disk in (0, UNKNOWN_16)
                inside = length + offset <= place or UNKNOWN_32 in (length, offset)
                return "it has an end record" if plausible and inside else None
            case b"PK\6\6" if len(header) >= 12:
                return "it has an end record" if header[8:12] == bytes(4) else None
        return None

    def _read(self, at: int, length: int) -> bytes:
        self.file.seek(at)
        return self.file.read(length) or b""


def _suffix(name: bytes) -> bytes:
    """Return the extension of a name, by which some formats are known."""
    _, dot, suffix = name.rpartition(b"/")[2].rpartition(b".")
    return dot and suffix.lower()


def _differences(
    record: ZipRecord, name: bytes, flags: int, method: int, values: tuple[int, int, int]
) -> Iterator[str]:
    """Yield what differs between an entry of the directory and its local header; `values`: CRC and sizes."""
    if name != record.raw_name:
        yield "name"
    elif (flags ^ record.flags) & UTF8_NAME and not name.isascii():
        yield "encoding of the name"
    if (flags | record.flags) & (ENCRYPTED | MASKED):  # an error in any case, and its header may be masked
        return
    if method != record.method:
        yield "compression"
    free = (0, UNKNOWN_32) if flags & DEFERRED else ()
    listed = (record.crc, record.packed, record.size)
    if any(own != other and own not in free for own, other in zip(values, listed, strict=True)):
        yield "size or checksum"
