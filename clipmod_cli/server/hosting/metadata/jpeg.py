"""JPEG: the segments that decoders need, and the data of each scan."""

from __future__ import annotations

from typing import Final

from clipmod_cli.decode.stills.segments import SKIPPED, SOS, read_jpeg
from clipmod_cli.server.hosting.metadata.errors import UnstrippableError
from clipmod_cli.server.hosting.metadata.exif import PREFIX, only_orientation

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_DNL, _DNL_BYTES = 0xDC, 4
"""Gives the number of lines, which few decoders read."""

_PROFILE: Final = b"ICC_PROFILE\0"
_JFIF_BYTES: Final = 12
_ADOBE_BYTES: Final = 12
"""Of a segment's content that decoders read: a JFIF's thumbnail follows, an Adobe's is all."""


def strip_jpeg(data: bytes) -> bytes:
    """Return a JPEG of its tables, frames and scans, its profile and its orientation.

    Raises:
        UnstrippableError: it does not end, or holds no picture.
    """
    segments = read_jpeg(data, 0, len(data))
    if segments.end is None or not segments.complete:
        raise UnstrippableError("the file is damaged")
    view = memoryview(data)
    parts: list[bytes | memoryview] = [_SOI]
    scanning = oriented = False
    ends = [start - 2 for _, start, _ in segments.found[1:]] + [segments.end - len(_EOI)]
    for (marker, start, close), end in zip(segments.found, ends, strict=True):
        if marker == _DNL and close - start != _DNL_BYTES:
            raise UnstrippableError(
                "it has a segment of a wrong length"
            )  # decoders skip it, whatever it holds
        if marker not in SKIPPED:
            parts.append(_segment(marker, data[start + 2 : close]))
            scanning = scanning or marker == SOS
            parts.append(view[close:end] if marker == SOS else b"")
        elif not scanning and marker == _APP1 and data.startswith(PREFIX, start + 2):
            turned = None if oriented else only_orientation(data[start + 2 : close])
            oriented = True  # viewers read the first
            parts.append(_segment(marker, PREFIX + turned) if turned else b"")
        elif not scanning:
            parts.append(_application(marker, data[start + 2 : close]))
    return b"".join([*parts, _EOI])


def _application(marker: int, body: bytes) -> bytes:
    """Return what is kept of an application's segment: what says which colours the numbers are."""
    if marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= _JFIF_BYTES:
        return _segment(marker, body[:_JFIF_BYTES] + bytes(2))  # no thumbnail
    if marker == _APP2 and body.startswith(_PROFILE):
        return _segment(marker, body)
    if marker == _APP14 and body.startswith(b"Adobe"):
        return _segment(marker, body[:_ADOBE_BYTES])
    return b""


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body
