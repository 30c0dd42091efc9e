"""GIF: its pictures, their times and transparency, how often it repeats, its profile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clipmod_cli.decode.reading.boxes import Span
from clipmod_cli.decode.stills.mending import colour_table_bytes, skip_sub_blocks
from clipmod_cli.server.hosting.metadata.errors import UnstrippableError, limited

_EXTENSION, _PICTURE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL, _APPLICATION = 0xF9, 0xFF
_SCREEN_BYTES: Final = 13
_PICTURE_BYTES: Final = 10
_CONTROL_BYTES: Final = 8
_NAME_BYTES: Final = 11
_LOOPS: Final = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_PROFILE: Final = b"ICCRGBG1012"


def strip_gif(data: bytes) -> bytes:
    """Return a GIF without comments, texts and the data of applications.

    Raises:
        UnstrippableError: it does not end.
    """
    view = memoryview(data)
    parts: list[bytes | memoryview] = [view[: _SCREEN_BYTES + colour_table_bytes(data[10])]]
    pictures = 0
    for start, end in limited(_blocks(data, len(parts[0]))):
        if data[start] == _PICTURE:
            parts.append(view[start:end])
            pictures += 1
        else:
            parts.append(_extension(data[start:end]))
    if not pictures:
        raise UnstrippableError("it holds no picture")
    return b"".join([*parts, bytes((_TRAILER,))])


def _blocks(data: bytes, at: int) -> Iterator[Span]:
    """Yield where the pictures and extensions lie."""
    while (kind := data[at]) != _TRAILER:
        if kind == _EXTENSION:
            end = skip_sub_blocks(data, at + 2)
        elif kind == _PICTURE:
            end = skip_sub_blocks(data, at + _PICTURE_BYTES + 1 + colour_table_bytes(data[at + 9]))
        else:
            raise UnstrippableError("it holds unknown blocks")
        yield at, end
        at = end


def _extension(block: bytes) -> bytes:
    """Return what is kept of an extension, given from its first byte to its last."""
    if block[1] == _CONTROL and len(block) >= _CONTROL_BYTES and block[2] == 4:
        return block[: _CONTROL_BYTES - 1] + b"\0"
    name, data = block[3 : 3 + _NAME_BYTES], block[3 + _NAME_BYTES :]
    if block[1] != _APPLICATION or block[2] != _NAME_BYTES:
        return b""
    if name == _PROFILE:
        return block
    if name in _LOOPS:
        loops = (one[:3] for one in _sub_blocks(data) if len(one) >= 3 and one[0] & 7 == 1)
        return b"".join(block[: 3 + _NAME_BYTES] + b"\3" + one + b"\0" for one in list(loops)[:1])
    return b""


def _sub_blocks(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data) and data[at]:
        yield data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
