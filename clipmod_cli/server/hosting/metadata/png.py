"""PNG and APNG: the chunks that decide about pixels, colours and frames."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

from clipmod_cli.decode.stills.mending import png_chunks
from clipmod_cli.server.hosting.metadata.errors import UnstrippableError, limited
from clipmod_cli.server.hosting.metadata.exif import only_orientation

_SIGNATURE_BYTES: Final = 8
_CRC_BYTES: Final = 4
_ANCILLARY: Final = 0x20
"""The bit of a chunk's type that lets decoders skip it."""

_SHOWN: Final[Mapping[bytes, int | None]] = {
    b"IHDR": 13, b"PLTE": 768, b"IDAT": None, b"IEND": 0,
    b"tRNS": 256, b"bKGD": 6, b"pHYs": 9,
    b"cHRM": 32, b"gAMA": 4, b"sRGB": 1, b"sBIT": 4, b"cICP": 4, b"mDCV": 24, b"cLLI": 8,
    b"acTL": 8, b"fcTL": 26, b"fdAT": None,
}  # fmt: skip
"""What a picture is shown by, and how many bytes that has at most: in more there may be anything, which
decoders skip. Profile and orientation are written again."""


def strip_png(data: bytes) -> bytes:
    """Return a PNG of the chunks that are shown, its profile without a name, and its orientation.

    Raises:
        UnstrippableError: it does not end, has chunks that decoders must know or put in one run, or a chunk
            larger than it can be.
    """
    view = memoryview(data)
    parts: list[bytes | memoryview] = [view[:_SIGNATURE_BYTES]]
    seen: set[bytes] = set()
    before = b""
    for kind, start, end in limited(png_chunks(data)):
        if end + _CRC_BYTES > len(data):
            break
        if kind == b"IDAT" and kind in seen and before != kind:
            raise UnstrippableError("its pixels are in several places")
        if kind in _SHOWN:
            most = _SHOWN[kind]
            if most is not None and end - start > most:
                raise UnstrippableError(f"its chunk {kind!r} is too large")
            parts.append(view[start - 8 : end + _CRC_BYTES])
        elif kind not in seen:  # decoders read the first
            parts.append(_written_anew(kind, data[start:end]))
        if kind == b"IEND":
            return b"".join(parts)
        seen.add(kind)
        before = kind
    raise UnstrippableError("the file is damaged")


def _written_anew(kind: bytes, body: bytes) -> bytes:
    """Return what is kept of a chunk that may hold more than is shown."""
    if kind == b"iCCP":
        return _chunk(kind, b"icc\0" + body.partition(b"\0")[2])
    if kind == b"eXIf":
        turned = only_orientation(body)
        return _chunk(kind, turned) if turned else b""
    if not kind[0] & _ANCILLARY:
        raise UnstrippableError(f"decoders have to know its chunk {kind!r}")
    return b""


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(_CRC_BYTES, "big")
