"""The pictures that requests carry: what the tiny models know."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image

from tests.end_to_end.command import TINY

PICTURES = TINY / "pictures"
RED_CIRCLE = (PICTURES / "red-circle.jpg").read_bytes()
BLUE_SQUARE = (PICTURES / "blue-square.png").read_bytes()
TRIANGLE = (PICTURES / "green-triangle.webp").read_bytes()
RED_SQUARE = (PICTURES / "red-square.avif").read_bytes()
ANIMATION = (PICTURES / "red-circle-in-one-frame.gif").read_bytes()
TEXT = b"this is no picture\n"
CUT = RED_CIRCLE[:60]
"""Begins as a JPEG, and holds none."""

VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(64)
EVERYTHING = (RED_CIRCLE, BLUE_SQUARE, TRIANGLE)
BYTES_A_PIXEL = {"JPEG": 0.18, "PNG": 2.0, "WEBP": 0.28}
"""About, for the noise of `grown`."""


@cache
def grown(name: str, size: int) -> bytes:
    """Return a picture, enlarged and with some noise, in its own format and with about so many bytes."""
    with Image.open(PICTURES / name) as opened:
        kind, picture = str(opened.format), opened.convert("RGB")
    side = max(round((size / BYTES_A_PIXEL[kind]) ** 0.5), 96)
    pixels = np.asarray(picture.resize((side, side))).astype(np.int16)
    noise = np.random.default_rng(5).integers(-12, 13, pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(buffer, kind, quality=90)
    return buffer.getvalue()
