"""Right colours: whatever mode a picture was stored in becomes 8-bit RGB, alpha composed on white.

Colour profiles (ICC) and gamma are left alone on purpose: open_clip, transformers and nudenet
ignore them too, and scores are to be theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

WHITE = 255

_DEEP_GREY = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})

_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0


def to_rgb(picture: Image.Image) -> Image.Image:
    """Return a loaded picture as 8-bit RGB of the same size."""
    if picture.mode in _DEEP_GREY:
        return _from_deep_grey(picture)
    if picture.mode in {"I", "F"}:
        return Image.fromarray(_stretch(np.asarray(picture, dtype=np.float64))).convert("RGB")
    if picture.mode == "LAB":
        return _from_lab(picture)
    if picture.has_transparency_data:
        return _on_white(picture.convert("RGBA"))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _on_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGB", picture.size, (WHITE, WHITE, WHITE))
    white.paste(picture, mask=picture.getchannel("A"))
    return white


def _from_deep_grey(picture: Image.Image) -> Image.Image:
    """Return 16-bit (or a TIFF's 12-bit) grey scaled to 8 bit; Pillow alone would clip it.

    The low byte is dropped, as Pillow does for the channels of 16-bit RGB, so that a grey picture
    gets the same numbers in both.
    """
    tags: Any = getattr(picture, "tag_v2", {})
    depths = tags.get(_BITS_PER_SAMPLE, (16,))
    grey = np.asarray(picture).astype(np.uint16)
    eight_bit = (grey >> max(depths[0] - 8, 0)).clip(0, WHITE).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        eight_bit = WHITE - eight_bit
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        eight_bit[grey == transparent] = WHITE
    return Image.fromarray(eight_bit).convert("RGB")


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return 32-bit integer or float grey as 8 bit.

    Such files do not say which value is white. 0..1 is what image editors write as float, 0..255 and
    0..65535 are bytes and words in a wider box; anything else is stretched from its least to its
    greatest value, so that something can be seen in it. NaN and infinity become black and white.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= 0:
        low, high = 0.0, next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
    span = (high - low) or 1.0
    shares = np.nan_to_num((values - low) / span, nan=0.0, posinf=1.0, neginf=0.0)
    eight_bit: NDArray[np.uint8] = np.rint(shares * WHITE).clip(0, WHITE).astype(np.uint8)
    return eight_bit


def _from_lab(picture: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("the Lab colours cannot be converted")
    return converted
