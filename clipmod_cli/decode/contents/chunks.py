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
_PNG_ONCE = (b"IHDR", b"PLTE", b"tRNS")
"""Of two, some decoders take the first and some the last."""

_WEBP_PIXELS = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ANMF"})
_WEBP_MOVES, _WEBP_ALPHA = 0x02, 0x10
"""The flags of an animation and of alpha in the VP8X chunk (WebP container specification)."""

_VP8L_ALPHA = 1 << 28
"""Of the four bytes behind the signature's (WebP lossless bitstream specification, 3)."""


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
    twice = any(counts[kind] > 1 for kind in _PNG_ONCE)
    unread = more or twice or counts.total() >= MAX_CHUNKS
    return Layout(end=end, hidden=tuple(hidden), parts=tuple(parts), unread=unread)


def webp_layout(data: bytes) -> Layout:
    """Return the layout of a WebP.

    Where it holds a still beside its frames, one of both is unread. So is alpha that its header denies: some
    decoders apply it, others leave it out.
    """
    end = min(8 + int.from_bytes(data[4:8], "little"), len(data))
    end += end & 1 if end < len(data) else 0
    hidden: list[Span] = []
    parts: list[Part] = []
    counts: Counter[bytes] = Counter()
    moves, opaque, transparent = False, False, False
    for kind, start, stop in islice(riff_chunks(data[:end]), MAX_CHUNKS):
        close = min(stop, end)
        match kind:
            case b"VP8X":
                flags = int.from_bytes(data[start : start + 1], "little")
                moves, opaque = bool(flags & _WEBP_MOVES), not flags & _WEBP_ALPHA
            case b"EXIF":
                offset = 6 if data.startswith(b"Exif\0\0", start) else 0
                parts += exif_thumbnails(data, start + offset, close)
            case _:
                pass
        counts[kind] += 1
        transparent = transparent or _has_alpha(data, kind, start)
        if kind not in _WEBP_PIXELS:
            hidden.append((start, close))
    stills, frames = counts[b"VP8 "] + counts[b"VP8L"], counts[b"ANMF"]
    more = stills > 1 or (frames > 0 and (stills > 0 or not moves))
    unread = more or (opaque and transparent) or counts.total() >= MAX_CHUNKS
    return Layout(end=end, hidden=tuple(hidden), parts=tuple(parts), unread=unread)


def _has_alpha(data: bytes, kind: bytes, start: int) -> bool:
    """Return whether a chunk of a WebP holds alpha, or a frame that begins with such a chunk."""
    if kind == b"ANMF":
        kind, start = data[start + 16 : start + 20], start + 24
    size_and_alpha = int.from_bytes(data[start + 1 : start + 5], "little")
    return kind == b"ALPH" or (kind == b"VP8L" and bool(size_and_alpha & _VP8L_ALPHA))


_GIF_BLOCK = re.compile(rb"[\x21\x2c\x3b]")


def gif_layout(data: bytes) -> Layout:
    """Return the layout of a GIF (GIF89a specification, sections 15 to 27).

    At bytes that are no block, browsers stop and show what came before: what is behind them can be a file.
    """
    end, odd = _gif_ends(data, 0, len(data))
    return Layout(end=end, hidden=((odd, end),))


def gif_end(data: bytes, start: int, end: int) -> int:
    """Return where the GIF at `start` ends."""
    return _gif_ends(data, start, end)[0]


def _gif_ends(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return where the GIF at `start` ends, for decoders that go on at odd bytes and for others."""
    odd = end
    at = start + 13 + colour_table_bytes(data[start + 10] if start + 10 < end else 0)
    while at < end:
        kind = data[at]
        if kind == 0x3B:
            return at + 1, min(odd, at + 1)
        if kind == 0x21:
            at = skip_sub_blocks(data, at + 2)
        elif kind == 0x2C:
            flags = data[at + 9] if at + 9 < end else 0
            at = skip_sub_blocks(data, at + 11 + colour_table_bytes(flags))
        else:  # decoders look for the next block they know
            odd = min(odd, at)
            match = _GIF_BLOCK.search(data, at, end)
            at = match.start() if match else end
    return end, odd


_BMP_HEADER_BYTES = 14
_BMP_RAW = frozenset({0, 3, 6})
"""Compression methods that are none: plain, and with masks of the colours."""

_BMP_PROFILE_HEADER_BYTES = 124
_BMP_EMBEDDED = 0x4D424544
"""The kind of colours of a bitmap with a profile in the file."""


def bmp_layout(data: bytes) -> Layout:
    """Return the layout of a BMP, by its pixels; lengths in the header can be false, and are not used.

    Run-length codes that leave a row are unread: decoders place the pixels behind them differently.
    """

    def number(at: int, width: int = 4) -> int:
        return int.from_bytes(data[at : at + width], "little")

    first, info = number(10), number(14)
    if info == 12:  # the header of OS/2 has shorter fields
        width, height, bits, method = number(18, 2), number(20, 2), number(24, 2), 0
    else:
        width, height, bits, method = number(18), number(22), number(28, 2), number(30)
    height = min(height, (1 << 32) - height)  # negative: stored from the top
    if method in _BMP_RAW:
        end, odd = first + math.ceil(width * bits / 32) * 4 * height, False
    else:
        end, odd = _run_lengths_end(data, first, (width, height), bits)
    end = max(end, _BMP_HEADER_BYTES + info)
    hidden = [(_BMP_HEADER_BYTES + info, first)]
    if info >= _BMP_PROFILE_HEADER_BYTES and number(_BMP_HEADER_BYTES + 56) == _BMP_EMBEDDED:
        profile = _BMP_HEADER_BYTES + number(_BMP_HEADER_BYTES + 112)
        length = min(number(_BMP_HEADER_BYTES + 116), int.from_bytes(data[profile : profile + 4], "big"))
        end = max(end, profile + length)
        hidden.append((profile, min(profile + length, len(data))))
    return Layout(end=min(end, len(data)), hidden=tuple(hidden), unread=odd)


def _run_lengths_end(data: bytes, at: int, size: tuple[int, int], bits: int) -> tuple[int, bool]:
    """Return (where the run-length codes of a BMP end, whether they leave a row or skip one by its end code).

    `size` is (width, height).
    """
    width, rows = size
    column, odd = 0, False
    while rows > 0 and at + 2 <= len(data):
        count, code = data[at], data[at + 1]
        at += 2
        if count:
            column += count
        elif code == 0:  # end of the row
            odd = odd or not column
            column, rows = 0, rows - 1
        elif code == 1:  # end of the picture
            break
        elif code == 2:  # onward by so many columns and rows
            column, rows = column + sum(data[at : at + 1]), rows - sum(data[at + 1 : at + 2])
            at += 2
        else:  # so many pixels as they are, padded to 16 bits
            column += code
            at += 2 * math.ceil(code * bits / 16)
        odd = odd or column > width
    return at, odd
