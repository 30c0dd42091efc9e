"""Whether a file that begins as something else can be opened as a zip, which is read from its end."""

from __future__ import annotations

from clipmod_cli.decode.reading.boxes import Read

_END, _END_64, _LOCATOR_64, _RECORD = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2"
_END_BYTES, _END_64_BYTES, _LOCATOR_64_BYTES = 22, 56, 20
_TAIL_BYTES = _END_BYTES + 0xFFFF
"""Where the end record may be: its comment can be this long (APPNOTE 4.3.16)."""


def is_zip(read: Read, length: int) -> bool:
    """Return whether some program may find a directory of entries, by any end record near the file's end."""
    base = max(length - _TAIL_BYTES, 0)
    tail = read(base, length - base)
    at = tail.rfind(_END)
    while at >= 0:
        if len(tail) - at >= _END_BYTES and _has_directory(read, base + at):
            return True
        at = tail.rfind(_END, 0, at)
    return False


def _has_directory(read: Read, at: int) -> bool:
    """Return whether there is a directory where an end record says it is, or right before the record."""
    record = read(at, _END_BYTES)
    places = {_number(record, 16, 4), at - _number(record, 12, 4)} if any(record[8:12]) else set()
    before = at - _LOCATOR_64_BYTES
    locator = read(before, _LOCATOR_64_BYTES) if before >= 0 else b""
    if locator.startswith(_LOCATOR_64):
        for end in (_number(locator, 8, 8), before - _END_64_BYTES):
            wide = read(end, _END_64_BYTES) if 0 <= end < at else b""
            if wide.startswith(_END_64) and any(wide[24:40]):
                places |= {_number(wide, 48, 8), end - _number(wide, 40, 8)}
    return any(0 <= place < at and read(place, len(_RECORD)) == _RECORD for place in places)


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")
