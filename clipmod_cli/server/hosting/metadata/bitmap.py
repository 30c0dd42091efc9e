"""BMP: its headers, colours and pixels; all else is zeros, or cut off."""

from __future__ import annotations

from typing import Final

from clipmod_cli.decode.contents.chunks import bmp_layout
from clipmod_cli.server.hosting.metadata.errors import UnstrippableError

_FILE_HEADER_BYTES: Final = 14
_OLD_HEADER_BYTES: Final = 12
_MASKS: Final = {3: 12, 6: 16}
"""Bytes of colour masks behind the older header, by the method of compression."""

_WITH_PROFILE_BYTES: Final = 124
_PROFILES: Final = (b"LINK", b"MBED")
_INDEXED_BITS: Final = 8


def strip_bmp(data: bytes) -> bytes:
    """Return a bitmap without what lies between its colours and its pixels, and behind those.

    Raises:
        UnstrippableError: it is cut off, odd, or has a profile, whose place in the file would move.
    """

    def number(at: int, width: int = 4) -> int:
        return int.from_bytes(data[at : at + width], "little")

    first, header = number(10), number(14)
    layout = bmp_layout(data)
    if layout.unread or not _FILE_HEADER_BYTES + header <= first < layout.end <= len(data):
        raise UnstrippableError("the file is damaged")
    if header >= _WITH_PROFILE_BYTES and data[70:74][::-1] in _PROFILES:
        raise UnstrippableError("it has a profile of its own")
    old = header == _OLD_HEADER_BYTES
    bits = number(24 if old else 28, 2)
    masks = _MASKS.get(number(30), 0) if header == 40 else 0
    most = 1 << bits if bits <= _INDEXED_BITS else 0
    used = most if old else min(number(46) or most, most)
    colours = (3 if old else 4) * used
    shown = min(_FILE_HEADER_BYTES + header + masks + colours, first)
    found = bytearray(data[: layout.end])
    found[2:10] = layout.end.to_bytes(4, "little") + bytes(4)
    found[shown:first] = bytes(first - shown)
    return bytes(found)
