"""The segments of a JPEG, found as decoders find them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SOI, _EOI, SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_STANDALONE = frozenset({_TEM, *range(0xD0, 0xD8)})
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_KNOWN = frozenset(range(0xC0, 0xFF)) - frozenset(range(0xF0, 0xFE)) - {_SOI}
"""Markers that decoders skip or read; at any other one they stop (ITU-T T.81, table B.1)."""

SKIPPED = frozenset({*range(0xE0, 0xF0), 0xFE})
"""APPn and COM: metadata."""

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""In the data of a scan FF 00 is a level of 255, and restart markers belong to it."""

MAX_SEGMENTS = 10_000
"""Of a JPEG; profiles and notes are split into some hundreds at most."""


@dataclass(frozen=True, slots=True)
class JpegSegments:
    """The segments of a JPEG.

    Attributes:
        found: (marker, start, end) of each one's body.
        end: where the JPEG ends; None if no decoder would find a picture in it.
        complete: it has an EOI marker.
    """

    found: list[tuple[int, int, int]]
    end: int | None
    complete: bool


def read_jpeg(data: bytes, at: int, end: int) -> JpegSegments:
    """Return the segments from an SOI marker to the EOI marker, or to what no decoder reads.

    Like decoders, it skips anything before a marker.
    """
    at += 2
    found: list[tuple[int, int, int]] = []
    kinds: set[int] = set()
    while len(found) < MAX_SEGMENTS:
        match = (_MARKER_IN_SCAN if SOS in kinds else _MARKER).search(data, at, end)
        marker, start = (data[match.end() - 1], match.end()) if match else (0, end)
        if marker in _STANDALONE:
            at = start
            continue
        length = int.from_bytes(data[start : start + 2], "big")
        length = max(length, 2) if marker in SKIPPED else length  # as libjpeg takes it
        if marker not in _KNOWN or marker == _EOI or length < 2:
            scan_is_last = bool(found) and found[-1][0] == SOS
            stop = start if marker == _EOI else (start - 2 if marker else end) if scan_is_last else at
            shown = SOS in kinds and not kinds.isdisjoint(FRAMES)
            return JpegSegments(found, min(stop, end) if shown else None, complete=marker == _EOI)
        found.append((marker, start, min(start + length, end)))
        kinds.add(marker)
        at = start + length
    return JpegSegments(found, None, complete=False)
