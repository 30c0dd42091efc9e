"""Converts a picture of any mode to 8-bit RGB, alpha composed on white.

Colour profiles (ICC) and gamma are ignored, as open_clip, transformers and nudenet do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

WHITE = 255

_DEEP_GREY = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})

_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0

STRIP_PIXELS = 2_000_000
"""Converted at once; most pictures are one strip."""


def to_pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a loaded picture as 8-bit RGB `(h, w, 3)`.

    Made in strips, since the intermediates of a whole picture take more memory than it and the result.
    """
    convert = _converter(picture)
    width, height = picture.size
    if width * height <= STRIP_PIXELS:
        return np.array(convert(picture))
    pixels = np.empty((height, width, 3), np.uint8)
    for top, bottom, strip in _strips(picture):
        pixels[top:bottom] = np.asarray(convert(strip))
    return pixels


def _strips(picture: Image.Image) -> Iterator[tuple[int, int, Image.Image]]:
    """Yield (top, bottom, rows between them) from the first row to the last."""
    width, height = picture.size
    rows = max(1, STRIP_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        yield top, bottom, picture.crop((0, top, width, bottom))


def _converter(picture: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return the function that converts a part of the picture to 8-bit RGB."""
    if picture.mode in _DEEP_GREY:
        tags: Any = getattr(picture, "tag_v2", {})
        return partial(
            _from_deep_grey, depth=tags.get(_BITS_PER_SAMPLE, (16,))[0], kind=tags.get(_PHOTOMETRIC)
        )
    if picture.mode in {"I", "F"}:
        low, high = _range_of(picture)
        return partial(_from_numbers, low=low, high=high)
    if picture.mode == "LAB":
        return _from_lab
    if picture.has_transparency_data:
        return _on_white
    return lambda part: part if part.mode == "RGB" else part.convert("RGB")


def _on_white(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    white = Image.new("RGB", picture.size, (WHITE, WHITE, WHITE))
    white.paste(picture, mask=picture.getchannel("A"))
    return white


def _from_deep_grey(picture: Image.Image, depth: int, kind: int | None) -> Image.Image:
    """Return 16-bit (or a TIFF's 12-bit) grey scaled to 8 bit, where Pillow alone would clip it.

    The low byte is dropped, as Pillow does with 16-bit RGB.
    """
    grey = np.asarray(picture).astype(np.uint16)
    eight_bit = (grey >> max(depth - 8, 0)).clip(0, WHITE).astype(np.uint8)
    if kind == _WHITE_IS_ZERO:
        eight_bit = WHITE - eight_bit
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        eight_bit[grey == transparent] = WHITE
    return Image.fromarray(eight_bit).convert("RGB")


def _range_of(picture: Image.Image) -> tuple[float, float]:
    """Return the values of 32-bit integer or float grey that become black and white.

    Files do not declare them. 0..1 is usual for floats, 0..255 and 0..65535 are widened bytes and words;
    other ranges are stretched from their least to their greatest value.
    """
    low, high = np.inf, -np.inf
    for _, _, strip in _strips(picture):
        values = np.asarray(strip, dtype=np.float64)
        finite = np.isfinite(values)
        low = float(values.min(where=finite, initial=low))
        high = float(values.max(where=finite, initial=high))
    if low > high:
        return 0.0, 0.0
    if low >= 0:
        return 0.0, next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
    return low, high


def _from_numbers(picture: Image.Image, low: float, high: float) -> Image.Image:
    """Return 32-bit integer or float grey with `low` as black; NaN and infinity become black and white."""
    values = np.asarray(picture, dtype=np.float64)
    span = (high - low) or 1.0
    shares = np.nan_to_num((values - low) / span, nan=0.0, posinf=1.0, neginf=0.0)
    return Image.fromarray(np.rint(shares * WHITE).clip(0, WHITE).astype(np.uint8)).convert("RGB")


def _from_lab(picture: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("the Lab colours cannot be converted")
    return converted
