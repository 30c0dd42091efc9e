"""WebP: the chunks of its picture or frames, its profile and its orientation."""

from __future__ import annotations

from typing import Final

from clipmod_cli.decode.stills.mending import riff_chunks
from clipmod_cli.server.hosting.metadata.errors import UnstrippableError, limited
from clipmod_cli.server.hosting.metadata.exif import only_orientation

_HEADER_BYTES: Final = 12
_FRAME_BYTES: Final = 16
"""Of a frame's place and time, before its own chunks."""

_ANIM_BYTES: Final = 6
"""Ground and number of repeats."""

_EXTENDED: Final = b"VP8X"
_EXTENDED_BYTES: Final = 10
_STILLS: Final = frozenset({b"VP8 ", b"VP8L"})
_SHOWN: Final = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ICCP"})
_PIXELS: Final = frozenset({b"VP8 ", b"VP8L", b"ALPH"})
_XMP, _EXIF = 0x04, 0x08
"""Flags in the VP8X chunk (WebP container specification)."""


def strip_webp(data: bytes) -> bytes:
    """Return a WebP of what is shown, with flags that say so.

    Raises:
        UnstrippableError: it is shorter than it says, or holds several stills.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise UnstrippableError("the file is damaged")
    found = [
        (kind, data[start:stop]) for kind, start, stop in limited(riff_chunks(data[:end])) if _fits(stop, end)
    ]
    kinds = [kind for kind, _ in found]
    stills, frames = sum(kind in _STILLS for kind in kinds), kinds.count(b"ANMF")
    if stills + bool(frames) != 1 or (kinds[0] != _EXTENDED and kinds[0] not in _STILLS):
        raise UnstrippableError("it holds no picture, or several")
    kind, head = found[0]
    if kind != _EXTENDED:  # what follows the picture is not read
        return _file([_chunk(kind, head)])
    exif = next((body for kind, body in found if kind == b"EXIF"), b"")
    turned = only_orientation(exif)
    flags = head[0] & ~(_XMP | _EXIF) | (_EXIF if turned else 0)
    parts = [_chunk(_EXTENDED, bytes((flags,)) + head[1:_EXTENDED_BYTES])]
    for kind, body in found:
        if kind in _SHOWN:
            parts.append(_chunk(kind, body[:_ANIM_BYTES] if kind == b"ANIM" else body))
        elif kind == b"ANMF":
            parts.append(_chunk(kind, body[:_FRAME_BYTES] + _frame(body)))
    return _file([*parts, _chunk(b"EXIF", turned)] if turned else parts)


def _file(parts: list[bytes]) -> bytes:
    chunks = b"".join(parts)
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks


def _frame(body: bytes) -> bytes:
    """Return the chunks of a frame that hold its pixels."""
    inner = bytes(_HEADER_BYTES) + body[_FRAME_BYTES:]
    return b"".join(
        _chunk(kind, inner[start:stop])
        for kind, start, stop in limited(riff_chunks(inner))
        if _fits(stop, len(inner)) and kind in _PIXELS
    )


def _fits(stop: int, end: int) -> bool:
    if stop > end:
        raise UnstrippableError("a part of it is cut off")
    return True


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + bytes(len(body) & 1)
