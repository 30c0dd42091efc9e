"""Whether pixels of a picture are missing although its decoder succeeds.

libjpeg fills what it cannot read with grey and Pillow leaves missing rows of a PNG black; both say nothing.
"""

from __future__ import annotations

import importlib
import re
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

from clipmod_cli.decode.stills.mending import png_chunks
from clipmod_cli.decode.stills.segments import FRAMES, SKIPPED, SOS, read_jpeg

_LOSING = re.compile(r"premature end|bad huffman code|bad arithmetic code|instead of rst", re.IGNORECASE)
"""Complaints of libjpeg about data of pixels. All others lose none: extraneous bytes, odd parameters."""

_SEQUENTIAL = frozenset({0xC0, 0xC1})
_WHOLE_SPECTRUM = b"\x00\x3f\x00"
"""The parameters of a scan that is not progressive (ITU-T T.81, B.2.3)."""

_LEAST_SCALE = 8
"""The decoder reads all data, but makes an eighth of the pixels along each side."""

_CHUNK_BYTES = 1 << 20

_SEQUENCE_BYTES = 4
"""Of the number before the pixels of an animation's later frames."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By a PNG's type of colour."""

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""(first column, first row, columns apart, rows apart) of interlaced pictures (PNG specification, 8.2)."""


def jpeg_loses_pixels(data: bytes, complaint: str | None = None) -> bool:
    """Return whether a JPEG that can be decoded lacks data of pixels.

    Args:
        data: the file.
        complaint: what simplejpeg said in a strict try, if there was one.
    """
    complaint = complaint or _complaint_about(data)
    if complaint is not None and not _LOSING.search(complaint):
        complaint = _complaint_about(_bare(data))  # the decoder stops at its first complaint
    return complaint is not None and bool(_LOSING.search(complaint))


def _complaint_about(data: bytes) -> str | None:
    """Return what the decoder says about a JPEG in a strict try; None for nothing, or without a decoder."""
    simplejpeg = load_simplejpeg()
    if simplejpeg is None:
        return None
    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=_LEAST_SCALE, strict=True)
    except ValueError as error:
        return str(error)
    return None


@cache
def load_simplejpeg() -> Any | None:
    """Return the module, None where it is not installed."""
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


def _bare(data: bytes) -> bytes:
    """Return a JPEG without what decoders complain about in vain: metadata, junk, odd parameters of scans."""
    segments = read_jpeg(data, 0, len(data)).found
    sequential = any(marker in _SEQUENTIAL for marker, _, _ in segments if marker in FRAMES)
    parts = [data[:2]]
    for number, (marker, start, end) in enumerate(segments):
        if marker in SKIPPED:
            continue
        body = data[start:end]
        if marker == SOS:
            following = segments[number + 1][1] - 2 if number + 1 < len(segments) else len(data)
            body = body[:-3] + _WHOLE_SPECTRUM if sequential else body
            body += data[end:following]
        parts.append(b"\xff" + bytes((marker,)) + body)
    return b"".join(parts)


@dataclass(slots=True)
class PngFrame:
    """A picture of a PNG: its (width, height), and where its compressed rows lie."""

    size: tuple[int, int]
    spans: list[tuple[int, int]]


def png_frames(data: bytes) -> list[PngFrame]:
    """Return the pictures of a PNG: its still one first, then the other frames of its animation."""
    size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    frames: list[PngFrame] = []
    before = b""
    for kind, start, end in png_chunks(data):
        if kind == b"IEND":
            break
        if kind == b"fcTL" and frames:
            body = data[start:end]
            size = int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:12], "big")
        elif kind in {b"IDAT", b"fdAT"}:
            span = start + (_SEQUENCE_BYTES if kind == b"fdAT" else 0), end
            if kind == before:
                frames[-1].spans.append(span)
            elif kind == b"fdAT" or not frames:  # decoders read one run of the first kind
                frames.append(PngFrame(size, [span]))
        before = kind
    return frames


def png_loses_rows(data: bytes, picture: Image.Image) -> bool:
    """Return whether a decoded PNG has fewer rows of pixels than it declares.

    Missing rows are zeros, so only a picture whose last row is zeros is looked into.
    """
    interlaced = data[28:29] == b"\x01"
    width, height = picture.size
    if not interlaced and any(picture.crop((0, height - 1, width, height)).tobytes()):
        return False
    return any(frame_loses_rows(data, frame) for frame in png_frames(data)[:1])


def frame_loses_rows(data: bytes, frame: PngFrame) -> bool:
    """Return whether a picture of a PNG has fewer rows of pixels than it declares."""
    return _inflated_bytes(data, frame, needed := _pixel_bytes(data, frame)) < needed


def _pixel_bytes(data: bytes, frame: PngFrame) -> int:
    """Return how many bytes the rows of a picture are."""
    width, height = frame.size
    bits = data[24] * _SAMPLES.get(data[25], 1)
    passes = _PASSES if data[28] == 1 else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-max(width - left, 0) // across), -(-max(height - top, 0) // down)
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return total


def _inflated_bytes(data: bytes, frame: PngFrame, most: int) -> int:
    """Return how many bytes the rows of a picture inflate to; those beyond `most` are not counted."""
    inflater = zlib.decompressobj()
    count = 0
    for start, end in frame.spans:
        rest = data[start:end]
        while rest and count < most and not inflater.eof:
            try:
                count += len(inflater.decompress(rest, _CHUNK_BYTES))
            except zlib.error:
                return count
            rest = inflater.unconsumed_tail
    return count
