"""Pictures that look like photographs, in every format, to be torn, damaged and disguised."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from clipmod_cli.decode.limits import DecodeLimits
from tests.decode.pictures import (
    encode,
    quarters,
)


def photo(size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return a picture that compresses as badly as a photograph and has no two equal rows."""
    noise = np.random.default_rng(7).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    smooth = quarters(size=size).resize(size, Image.Resampling.BICUBIC)
    return Image.blend(smooth, Image.fromarray(noise), 0.4)


def moving(name: str, count: int = 4, **settings: Any) -> bytes:
    shots = [photo().rotate(20 * number) for number in range(count)]
    return encode(shots[0], name, save_all=True, append_images=shots[1:], duration=120, **settings)


STILLS: dict[str, bytes] = {
    "JPEG": encode(photo(), "JPEG", quality=90),
    "JPEG-progressive": encode(photo(), "JPEG", quality=90, progressive=True),
    "JPEG-grey": encode(photo().convert("L"), "JPEG"),
    "JPEG-CMYK": encode(photo().convert("CMYK"), "JPEG"),
    "PNG": encode(photo(), "PNG"),
    "PNG-palette": encode(photo().quantize(64), "PNG"),
    "PNG-alpha": encode(photo().convert("RGBA"), "PNG"),
    "WEBP": encode(photo(), "WEBP"),
    "WEBP-lossless": encode(photo(), "WEBP", lossless=True),
    "GIF": encode(photo(), "GIF", interlace=0),
    "BMP": encode(photo(), "BMP"),
    "TIFF": encode(photo(), "TIFF"),
    "TIFF-lzw": encode(photo(), "TIFF", compression="tiff_lzw"),
    "TIFF-jpeg": encode(photo(), "TIFF", compression="jpeg"),
    "AVIF": encode(photo(), "AVIF"),
}
MOVING: dict[str, bytes] = {
    "GIF": moving("GIF"),
    "PNG": moving("PNG"),
    "WEBP": moving("WEBP"),
    "AVIF": moving("AVIF"),
    "TIFF": moving("TIFF"),
}
RESCUED = {"JPEG", "JPEG-progressive", "JPEG-grey", "JPEG-CMYK", "PNG", "PNG-palette", "PNG-alpha", "WEBP",
           "WEBP-lossless", "GIF", "BMP", "TIFF"}  # fmt: skip
"""What can be decoded in part. The others keep their directory at the end, or decode all or nothing."""

TINY = DecodeLimits(max_pixels=1_000_000, max_header_pixels=1_000_000)
