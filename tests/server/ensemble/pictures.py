"""The pictures that requests carry: what the tiny models know."""

from __future__ import annotations

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
