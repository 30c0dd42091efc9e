"""Every format and mode comes out in the right colours, in the right corners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.decode.pictures import (
    BLACK,
    BLUE,
    GREEN,
    QUARTERS,
    RED,
    SIZE,
    WHITE,
    YELLOW,
    Colour,
    assert_corners,
    encode,
    frame,
    media,
    pixels,
    quarters,
)

GREYS = [(0,) * 3, (80,) * 3, (160,) * 3, (255,) * 3]
TWO_TONE = [BLACK, WHITE, WHITE, BLACK]
WIDTH, HEIGHT = SIZE


def grey() -> Image.Image:
    return quarters([tone[0] for tone in GREYS], "L")


def two_tone() -> Image.Image:
    return quarters([0, 255, 255, 0], "1")


def palette() -> Image.Image:
    return quarters().quantize(4)


def lit() -> Image.Image:
    """The quarters opaque, half there (twice) and gone."""
    return quarters([(*RED, 255), (*GREEN, 128), (*BLUE, 128), (*YELLOW, 0)], "RGBA")


LIT = [RED, (127, 255, 127), (127, 127, 255), WHITE]


def grey_alpha() -> Image.Image:
    return quarters([(0, 255), (0, 128), (100, 255), (0, 0)], "LA")


GREY_ALPHA = [BLACK, (127,) * 3, (100,) * 3, WHITE]

CASES: list[tuple[str, str, Callable[[], Image.Image], dict[str, Any], Sequence[Colour], int]] = [
    ("1", "PNG", two_tone, {}, TWO_TONE, 0),
    ("L", "PNG", grey, {}, GREYS, 0),
    ("LA", "PNG", grey_alpha, {}, GREY_ALPHA, 1),
    ("P", "PNG", palette, {}, list(QUARTERS), 0),
    ("RGB", "PNG", quarters, {}, list(QUARTERS), 0),
    ("RGB-level9", "PNG", quarters, {"optimize": True}, list(QUARTERS), 0),
    ("RGB-key", "PNG", quarters, {"transparency": RED}, [WHITE, GREEN, BLUE, YELLOW], 0),
    ("L-key", "PNG", grey, {"transparency": 80}, [GREYS[0], WHITE, GREYS[2], WHITE], 0),
    ("RGBA", "PNG", lit, {}, LIT, 1),
    ("1", "TIFF", two_tone, {}, TWO_TONE, 0),
    ("1-g4", "TIFF", two_tone, {"compression": "group4"}, TWO_TONE, 0),
    ("L", "TIFF", grey, {}, GREYS, 0),
    ("LA", "TIFF", grey_alpha, {}, GREY_ALPHA, 1),
    ("P", "TIFF", palette, {}, list(QUARTERS), 0),
    ("RGB", "TIFF", quarters, {}, list(QUARTERS), 0),
    ("RGB-lzw", "TIFF", quarters, {"compression": "tiff_lzw"}, list(QUARTERS), 0),
    ("RGB-deflate", "TIFF", quarters, {"compression": "tiff_adobe_deflate"}, list(QUARTERS), 0),
    ("RGB-packbits", "TIFF", quarters, {"compression": "packbits"}, list(QUARTERS), 0),
    ("RGB-jpeg", "TIFF", quarters, {"compression": "jpeg", "quality": 100}, list(QUARTERS), 6),
    ("RGB-big", "TIFF", quarters, {"big_tiff": True}, list(QUARTERS), 0),
    ("RGBA", "TIFF", lit, {}, LIT, 1),
    ("CMYK", "TIFF", lambda: quarters().convert("CMYK"), {}, list(QUARTERS), 0),
    ("YCbCr", "TIFF", lambda: quarters().convert("YCbCr"), {}, list(QUARTERS), 3),
    ("1", "BMP", two_tone, {}, TWO_TONE, 0),
    ("L", "BMP", grey, {}, GREYS, 0),
    ("P", "BMP", palette, {}, list(QUARTERS), 0),
    ("RGB", "BMP", quarters, {}, list(QUARTERS), 0),
    ("L", "GIF", grey, {}, GREYS, 0),
    ("P", "GIF", palette, {}, list(QUARTERS), 0),
    ("interlaced", "GIF", palette, {"interlace": 1}, list(QUARTERS), 0),
    ("lossless", "WEBP", quarters, {"lossless": True}, list(QUARTERS), 0),
    ("lossless-RGBA", "WEBP", lit, {"lossless": True, "exact": True}, LIT, 1),
    ("lossy", "WEBP", quarters, {"quality": 95}, list(QUARTERS), 12),
    ("RGB", "AVIF", quarters, {"quality": 95}, list(QUARTERS), 12),
    ("L", "AVIF", grey, {"quality": 95}, GREYS, 6),
    ("RGBA", "AVIF", lit, {"quality": 95}, LIT, 12),
    ("L", "JPEG", grey, {"quality": 95}, GREYS, 3),
    ("RGB-444", "JPEG", quarters, {"quality": 95, "subsampling": 0}, list(QUARTERS), 6),
    ("RGB-422", "JPEG", quarters, {"quality": 95, "subsampling": 1}, list(QUARTERS), 6),
    ("RGB-420", "JPEG", quarters, {"quality": 95, "subsampling": 2}, list(QUARTERS), 6),
    ("RGB-kept", "JPEG", quarters, {"quality": 95, "keep_rgb": True}, list(QUARTERS), 6),
    ("progressive", "JPEG", quarters, {"quality": 95, "progressive": True}, list(QUARTERS), 6),
    ("CMYK", "JPEG", lambda: quarters().convert("CMYK"), {"quality": 95}, list(QUARTERS), 6),
]


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
@pytest.mark.parametrize(
    ("name", "make", "settings", "expected", "tolerance"),
    [case[1:] for case in CASES],
    ids=[f"{case[1]}-{case[0]}" for case in CASES],
)
def test_a_mode_comes_out_in_its_colours(
    name: str,
    make: Callable[[], Image.Image],
    settings: dict[str, Any],
    expected: Sequence[Colour],
    tolerance: int,
    exact: bool,
) -> None:
    result = frame(encode(make(), name, **settings), exact=exact)
    assert_corners(result.inputs[next(iter(result.inputs))], expected, tolerance)
    assert (media(result).format, media(result).kind) == (name, "image")
    assert (media(result).width, media(result).height) == SIZE
    assert not media(result).truncated


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_lossless_format_is_exact_to_the_last_pixel(name: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    settings = {"lossless": True} if name == "WEBP" else {}
    assert np.array_equal(pixels(encode(Image.fromarray(noise), name, **settings)), noise)


def test_transparency_of_a_palette_becomes_white() -> None:
    picture = palette()
    clear = picture.getpixel((0, 0))
    assert_corners(pixels(encode(picture, "PNG", transparency=clear)), [WHITE, GREEN, BLUE, YELLOW])
    assert_corners(pixels(encode(picture, "GIF", transparency=clear)), [WHITE, GREEN, BLUE, YELLOW])
    half = bytes(128 if entry == clear else 255 for entry in range(4))
    assert_corners(
        pixels(encode(picture, "PNG", transparency=half)), [(255, 127, 127), GREEN, BLUE, YELLOW], 1
    )
