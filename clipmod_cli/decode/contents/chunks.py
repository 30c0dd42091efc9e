"""The layouts of PNG, WebP, GIF and BMP: where each ends, and which parts of it hold no pixels."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import islice

from clipmod_cli.decode.contents.parts import Layout, Part
from clipmod_cli.decode.contents.tiff import exif_thumbnails
from clipmod_cli.decode.reading.boxes import Span
from clipmod_cli.decode.stills.mending import colour_table_bytes, png_chunks, riff_chunks, skip_sub_blocks

MAX_CHUNKS = 100_000
"""That are walked in a file; rows of pixels are written in far fewer."""

_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"fdAT"})
_WEBP_PIXELS = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ANMF"})
_WEBP_MOVES = 0x02
"""The flag of an animation in the VP8X chunk (WebP container specification)."""


def png_layout(data: bytes) -> Layout:
    """Return the layout of a PNG; of an APNG that has more frames than it declares, some are unread."""
    hidden: list[Span] = []
    parts: list[Part] = []
    counts: Counter[bytes] = Counter()
    declared, end, before = 0, 0, b""
    for kind, start, stop in islice(png_chunks(data), MAX_CHUNKS):
        close = min(stop, len(data))
        again = kind == b"IDAT" and counts[kind] and before != kind  # decoders read one run of them
        if kind not in _PNG_PIXELS or again:
            hidden.append((start, close))
        if stop + 4 <= len(data) and kind.isalpha():  # the last one, if there is no IEND
            end = stop + 4
        if kind == b"IEND":
            end = min(stop + 4, len(data))
            break
        if kind == b"acTL" and not counts[b"IDAT"]:  # behind the pixels it is no animation
            declared = declared or int.from_bytes(data[start : start + 4], "big")
        elif kind == b"eXIf" and not counts[kind]:
            parts += exif_thumbnails(data, start, close)
        counts[kind] += 1
        before = kind
    more = counts[b"fcTL"] > max(declared, 1) or (counts[b"fdAT"] > 0 and not declared)
    unread = more or counts.total() >= MAX_CHUNKS
    return Layout(end=end, hidden=tuple(hidden), parts=tuple(parts), unread=unread)


def webp_layout(data: bytes) -> Layout:
    """Return the layout of a WebP; where it holds a still beside its frames, one of both is unread."""
    end = min(8 + int.from_bytes(data[4:8], "little"), len(data))
    end += end & 1 if end < len(data) else 0
    hidden: list[Span] = []
    parts: list[Part] = []
    counts: Counter[bytes] = Counter()
    moves = False
    for kind, start, stop in islice(riff_chunks(data[:end]), MAX_CHUNKS):
        close = min(stop, end)
        match kind:
            case b"VP8X":
                moves = bool(int.from_bytes(data[start : start + 1], "little") & _WEBP_MOVES)
            case b"EXIF":
                offset = 6 if data.startswith(b"Exif\0\0", start) else 0
                parts += exif_thumbnails(data, start + offset, close)
            case _:
                pass
        counts[kind] += 1
        if kind not in _WEBP_PIXELS:
            hidden.append((start, close))
    stills, frames = counts[b"VP8 "] + counts[b"VP8L"], counts[b"ANMF"]
    more = stills > 1 or (frames > 0 and (stills > 0 or not moves))
    unread = more or counts.total() >= MAX_CHUNKS
    return Layout(end=end, hidden=tuple(hidden), parts=tuple(parts), unread=unread)


_GIF_BLOCK = re.compile(rb"[\x21\x2c\x3b]")


def gif_layout(data: bytes) -> Layout:
    """Return the layout of a GIF (GIF89a specification, sections 15 to 27)."""
    return Layout(end=gif_end(data, 0, len(data)))


def gif_end(data: bytes, start: int, end: int) -> int:
    """Return where the GIF at `start` ends."""
    at = start + 13 + colour_table_bytes(data[start + 10] if start + 10 < end else 0)
    while at < end:
        kind = data[at]
        if kind == 0x3B:
            return at + 1
        if kind == 0x21:
            at = skip_sub_blocks(data, at + 2)
        elif kind == 0x2C:
            flags = data[at + 9] if at + 9 < end else 0
            at = skip_sub_blocks(data, at + 11 + colour_table_bytes(flags))
        else:  # decoders look for the next block they know
            match = _GIF_BLOCK.search(data, at, end)
            at = match.start() if match else end
    return end


_BMP_HEADER_BYTES = 14
_BMP_RAW = frozenset({0, 3, 6})
"""Compression methods that are none: plain, and with masks of the colours."""


def bmp_layout(data: bytes) -> Layout:
    """Return the layout of a BMP, by its pixels: the file's own length in its header is anybody's word."""

    def number(at: int, width: int = 4) -> int:
        return int.from_bytes(data[at : at + width], "little")

    first, info = number(10), number(14)
    if info == 12:  # the header of OS/2 has shorter fields
        width, height, bits, method, declared = number(18, 2), number(20, 2), number(24, 2), 0, 0
    else:
        width, height, bits = number(18), number(22), number(28, 2)
        method, declared = number(30), number(34)
    height = min(height, (1 << 32) - height)  # negative: stored from the top
    size = math.ceil(width * bits / 32) * 4 * height if method in _BMP_RAW else declared
    end = max(first + size, _BMP_HEADER_BYTES + info)
    if info >= 124 and number(_BMP_HEADER_BYTES + 56) in {0x4C494E4B, 0x4D424544}:  # a profile, linked or not
        end = max(end, _BMP_HEADER_BYTES + number(_BMP_HEADER_BYTES + 112) + number(_BMP_HEADER_BYTES + 116))
    return Layout(end=min(end, len(data)), hidden=((_BMP_HEADER_BYTES + info, first),))
