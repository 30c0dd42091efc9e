"""The segments of a JPEG: where it ends, what is in its metadata, and which further pictures it declares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from clipmod_cli.decode.contents.parts import Layout, Part, Role
from clipmod_cli.decode.contents.tiff import exif_thumbnails
from clipmod_cli.decode.stills.segments import MAX_SEGMENTS, SKIPPED, JpegSegments, read_jpeg

_EXIF = b"Exif\0\0"
_MPF = b"MPF\0"
_MP_ENTRIES = 0xB002
_MP_PREVIEWS = 0x01
"""The class of a "large thumbnail" (CIPA DC-007, 5.2.3.3)."""

_MAP_WORDS = (b"hdrgm:", b"HDRGainMap", b":AuxiliaryImageType", b"urn:iso:std:iso:ts:21496")
"""How a gain or depth map names itself in its own metadata: Google's, Apple's, ISO 21496-1."""

_SCAN_TAIL_BYTES = 1 << 14

_STARTS = ((b"ftyp", 4), (b"\x89PNG\r\n", 0), (b"RIFF", 0), (b"\x1a\x45\xdf\xa3", 0))
"""(bytes, their offset in the file that they begin): what may follow a JPEG that has no end marker."""

_DECLARED_MAPS = re.compile(rb"""Semantic\s*[=>]\s*["']?(?:GainMap|Depth|Confidence)""")
"""How the primary picture's metadata announce maps behind it: Google's directory of the container."""

_JFIF_BARE_BYTES = 14
"""Of a JFIF segment without a thumbnail of raw pixels."""

_RAW_THUMBNAILS = (b"JFXX\0\x11", b"JFXX\0\x13")
"""Thumbnails of raw pixels with a palette and without one (JFIF 1.02, extensions)."""


def jpeg_end(data: bytes, at: int, end: int) -> int | None:
    """Return where the JPEG at `at` ends, None if no decoder would find a picture in it."""
    return read_jpeg(data, at, end).end


def is_torn_jpeg(data: bytes, part: Part) -> bool:
    """Return whether a part is a JPEG that goes on where `data` ends: in the next segment of its metadata."""
    return (
        part.format.name == "JPEG"
        and part.end >= len(data)
        and not read_jpeg(data, part.offset, part.end).complete
    )


def jpeg_layout(data: bytes) -> Layout:
    """Return the layout of a JPEG."""
    segments = read_jpeg(data, 0, len(data))
    roles: list[tuple[int, Role]] = []
    parts: list[Part] = []
    trailing_role: Role | None = None
    unread = len(segments.found) >= MAX_SEGMENTS
    bodies = [(start + 2, close) for marker, start, close in segments.found if marker in SKIPPED]
    for body, close in bodies:
        if data.startswith(_EXIF, body) and not parts:
            parts += exif_thumbnails(data, body + len(_EXIF), close)
        elif data.startswith(_MPF, body):
            roles += _roles_of_mpf(data, body + len(_MPF), close)
        elif data.startswith(b"JFIF\0", body):
            unread = unread or (close - body > _JFIF_BARE_BYTES and all(data[body + 12 : body + 14]))
        elif data.startswith(_RAW_THUMBNAILS, body):
            unread = True
        elif _DECLARED_MAPS.search(data, body, close):
            trailing_role = "map"
    end, scan = _end_and_scan(data, segments)
    return Layout(
        end=end,
        hidden=(*bodies, (max(scan, end - _SCAN_TAIL_BYTES), end)),  # behind the last row anything can follow
        parts=tuple(parts),
        roles=tuple(roles),
        trailing_role=trailing_role,
        unread=unread,
    )


def _end_and_scan(data: bytes, segments: JpegSegments) -> tuple[int, int]:
    """Return where a JPEG ends, and where its last scan or segment begins to hold data."""
    end = len(data) if segments.end is None else segments.end
    scan = segments.found[-1][2] if segments.found else end
    if not segments.complete:  # what follows may be anything, and its first bytes look like pixels
        hits = (data.find(needle, scan) - back for needle, back in _STARTS)
        end = min((hit for hit in hits if hit >= scan), default=end)
    return end, scan


def declares_map(data: bytes, start: int, end: int) -> bool:
    """Return whether the metadata of the JPEG at `start` says that it is a gain or depth map."""
    return any(
        data.find(word, body, close) >= 0
        for marker, body, close in read_jpeg(data, start, end).found
        if marker in SKIPPED
        for word in _MAP_WORDS
    )


def _roles_of_mpf(data: bytes, base: int, end: int) -> Iterator[tuple[int, Role]]:
    """Yield (offset, role) of the previews in a multi-picture index (CIPA DC-007, 5.2)."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II", base) else "big"

    def number(at: int, width: int) -> int:
        return int.from_bytes(data[at : min(at + width, end)], order)

    ifd = base + number(base + 4, 4)
    for entry in range(ifd + 2, min(ifd + 2 + 12 * number(ifd, 2), end - 11), 12):
        if number(entry, 2) == _MP_ENTRIES:
            first = base + number(entry + 8, 4)
            for one in range(first, min(first + number(entry + 4, 4), end - 15), 16):
                if number(one, 4) >> 16 & 0xFF == _MP_PREVIEWS:
                    yield base + number(one + 8, 4), "preview"
