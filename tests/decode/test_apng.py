"""Frames of an animated PNG are composed as its specification says."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.decode.pictures import WHOLE, frames, media, png_chunk

SIDE = 8
SOURCE, OVER = 0, 1
KEEP, CLEAR, RESTORE = 0, 1, 2
LEVEL = 2
"""The transparent one of a picture without alpha."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    """A frame: its pixels `(h, w, 4)`, where it is, how it is removed and blended."""

    pixels: Pixels
    left: int
    top: int
    removal: int
    blend: int


def stored(pixels: Pixels, kind: int) -> Pixels:
    """Return RGBA pixels as a PNG of a type of colour has them; a grey one has its transparent level."""
    clear = np.uint8(LEVEL)
    if kind == 6:
        return pixels
    if kind == 2:
        return np.where(pixels[..., 3:] == 0, clear, pixels[..., :3])
    grey = np.where(pixels[..., 3] == 0, clear, pixels[..., 0])
    return np.stack([grey, pixels[..., 3]], axis=2) if kind == 4 else grey[..., None]


def write(drawn: list[Drawn], kind: int) -> bytes:
    out = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, kind, 0, 0, 0))
    if kind == 3:
        out += png_chunk(b"PLTE", bytes(level for level in range(256) for _ in range(3)))
        out += png_chunk(b"tRNS", bytes(0 if level == LEVEL else 255 for level in range(256)))
    elif kind in {0, 2}:
        out += png_chunk(b"tRNS", struct.pack(">H", LEVEL) * (3 if kind else 1))
    out += png_chunk(b"acTL", struct.pack(">II", len(drawn), 0))
    number = 0
    for one in drawn:
        rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in stored(one.pixels, kind)))
        height, width = one.pixels.shape[:2]
        place = struct.pack(">5I", number, width, height, one.left, one.top)
        out += png_chunk(b"fcTL", place + struct.pack(">HHBB", 10, 100, one.removal, one.blend))
        body = struct.pack(">I", number + 1) + rows
        out += png_chunk(b"fdAT", body) if number else png_chunk(b"IDAT", rows)
        number += 2 if number else 1
    return out + png_chunk(b"IEND", b"")


def composed(drawn: list[Drawn]) -> list[Pixels]:
    """Return what is shown after each frame, on a white page."""
    canvas = Image.new("RGBA", (SIDE, SIDE))
    shown = []
    for number, one in enumerate(drawn):
        before, picture = canvas.copy(), Image.fromarray(one.pixels)
        if one.blend == OVER:
            canvas.alpha_composite(picture, (one.left, one.top))
        else:
            canvas.paste(picture, (one.left, one.top))
        page = Image.new("RGBA", canvas.size, "white")
        page.alpha_composite(canvas)
        shown.append(np.asarray(page.convert("RGB")))
        if one.removal == CLEAR or (one.removal == RESTORE and not number):
            canvas.paste(
                (0, 0, 0, 0), (one.left, one.top, one.left + picture.width, one.top + picture.height)
            )
        elif one.removal == RESTORE:
            canvas = before
    return shown


def drawn_frame(number: int, drawn: np.random.Generator, *, grey: bool) -> Drawn:
    height, width = (SIDE, SIDE) if number == 0 else drawn.integers(1, SIDE + 1, 2)
    pixels = drawn.integers(LEVEL + 1, 256, (height, width, 4), np.uint8)
    if grey:
        pixels[..., 1:3] = pixels[..., :1]
    pixels[..., 3] = drawn.choice([0, 255], (height, width))
    left, top = drawn.integers(0, SIDE - width + 1), drawn.integers(0, SIDE - height + 1)
    return Drawn(pixels, int(left), int(top), int(drawn.integers(0, 3)), int(drawn.integers(0, 2)))


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 6])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), count=st.integers(2, 5))
def test_every_frame_is_shown_as_composed_or_the_record_says_so(kind: int, seed: int, count: int) -> None:
    drawn = np.random.default_rng(seed)
    given_frames = [drawn_frame(number, drawn, grey=kind in {0, 3, 4}) for number in range(count)]
    expected = composed(given_frames)
    found = frames(write(given_frames, kind))
    if media(found[0]).unseen:
        assert media(found[0]).unseen == ("other_content",)
        return
    for number in {one.number for one in found}:
        ways = [one.inputs[WHOLE].astype(int) for one in found if one.number == number]
        assert min(np.abs(pixels - expected[number]).max() for pixels in ways) <= 1


def test_what_was_hidden_for_one_frame_comes_back() -> None:
    """Half of a red picture is covered for a frame, and the other half is drawn when it is gone."""
    red, blue = (np.full((SIDE, SIDE, 4), (*colour, 255), np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    half = blue.copy()
    half[:, : SIDE // 2] = red[:, : SIDE // 2]
    parts = [
        Drawn(half, 0, 0, KEEP, SOURCE),
        Drawn(blue, 0, 0, RESTORE, OVER),
        Drawn(red[:, : SIDE // 2], SIDE // 2, 0, KEEP, OVER),
    ]
    last = frames(write(parts, 6))[-1]
    assert (last.inputs[WHOLE] == red[..., :3]).all()
