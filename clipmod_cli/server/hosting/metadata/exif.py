"""The one tag of EXIF metadata that changes how a picture is shown: its orientation."""

from __future__ import annotations

import struct
from typing import Final, Literal

PREFIX: Final = b"Exif\0\0"
"""Before the TIFF in a JPEG's segment, and in some WebPs."""

_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = 1
_LAST: Final = 8
_WIDTHS: Final = {3: 2, 4: 4}
"""Bytes of a value by its type: short, long."""


def orientation_of(exif: bytes) -> int:
    """Return the orientation (1..8) of EXIF metadata with or without its prefix; 1 where it says none."""
    tiff = exif.removeprefix(PREFIX)
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"

    def number(at: int, width: int) -> int:
        return int.from_bytes(tiff[at : at + width], order)

    ifd = number(4, 4)
    last = min(ifd + 2 + 12 * number(ifd, 2), len(tiff) - 11)
    for entry in range(ifd + 2, last, 12):
        if number(entry, 2) == _ORIENTATION:
            value = number(entry + 8, _WIDTHS.get(number(entry + 2, 2), 1))
            return value if _UPRIGHT <= value <= _LAST else _UPRIGHT
    return _UPRIGHT


def only_orientation(exif: bytes) -> bytes | None:
    """Return EXIF metadata, without prefix, with nothing but the orientation; None where it is upright."""
    value = orientation_of(exif)
    if value == _UPRIGHT:
        return None
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, _ORIENTATION, 3, 1, value, 0, 0)
