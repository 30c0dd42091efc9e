"""Sizes, windows and orientations: numbers only, no pixels.

Sizes are (height, width). "Stored" is the order of pixels in the file, "displayed" that turned by EXIF.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from clipmod_cli.types import Geometry

_JPEG_SCALES = (8, 4, 2)
"""libjpeg's power-of-two scalings; its others drift by up to a tenth of the grey levels."""


class PixelWindow(NamedTuple):
    """A rectangle, in whole pixels."""

    top: int
    left: int
    height: int
    width: int


class Orientation(NamedTuple):
    """How stored pixels become displayed ones: first transposed, then mirrored."""

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    def store_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the stored size of what is displayed with `size`; it is its own inverse."""
        return (size[1], size[0]) if self.transposed else size

    def store_window(self, window: PixelWindow, size: tuple[int, int]) -> PixelWindow:
        """Return where a window of the displayed picture of `size` lies in the stored one."""
        top, left, height, width = window
        if self.upside_down:
            top = size[0] - top - height
        if self.mirrored:
            left = size[1] - left - width
        return (
            PixelWindow(left, top, width, height)
            if self.transposed
            else PixelWindow(top, left, height, width)
        )

    def display_window(self, window: PixelWindow, size: tuple[int, int]) -> PixelWindow:
        """Return where a window of the stored picture lies in the displayed one of `size`."""
        top, left, height, width = (
            PixelWindow(window.left, window.top, window.width, window.height) if self.transposed else window
        )
        if self.upside_down:
            top = size[0] - top - height
        if self.mirrored:
            left = size[1] - left - width
        return PixelWindow(top, left, height, width)


UPRIGHT = Orientation()

EXIF_ORIENTATIONS: dict[int, Orientation] = {
    1: UPRIGHT,
    2: Orientation(mirrored=True),
    3: Orientation(mirrored=True, upside_down=True),
    4: Orientation(upside_down=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, mirrored=True),
    7: Orientation(transposed=True, mirrored=True, upside_down=True),
    8: Orientation(transposed=True, upside_down=True),
}
"""EXIF 2.32, tag 0x0112: which side of the stored picture its row 0 and column 0 are."""


def scaled_size(geometry: Geometry, height: int, width: int) -> tuple[int, int]:
    """Return (height, width) that a whole picture of `height` x `width` is scaled to for a view.

    For `corner` without its padding. The rounding is that of the view's engine: torchvision's
    `Resize` cuts off, open_clip's `ResizeKeepRatio` rounds.
    """
    match geometry.fit:
        case "whole":
            return height, width
        case "squash":
            return geometry.size
        case "corner":
            longer = max(height, width)
            return _rounded(height * geometry.size[0] / longer, width * geometry.size[1] / longer)
        case "shortest":
            if geometry.engine == "pillow" and geometry.size[0] != geometry.size[1]:
                ratio = min(height / geometry.size[0], width / geometry.size[1])
                return _rounded(height / ratio, width / ratio)
            longer_side = int(geometry.size[0] * max(height, width) / min(height, width))
            return (geometry.size[0], longer_side) if height <= width else (longer_side, geometry.size[0])
        case "longest":
            if geometry.engine == "pillow":
                ratio = max(height / geometry.size[0], width / geometry.size[1])
                return _rounded(height / ratio, width / ratio)
            shorter_side = max(int(geometry.size[0] * min(height, width) / max(height, width)), 1)
            return (shorter_side, geometry.size[0]) if height <= width else (geometry.size[0], shorter_side)


def padded_size(geometry: Geometry, height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) to which `corner` pads a scaled picture on the fast path."""
    if geometry.stride is None:
        return geometry.size
    padded = (math.ceil(side / geometry.stride) * geometry.stride for side in (height, width))
    most_height, most_width = geometry.size
    return min(next(padded), most_height), min(next(padded), most_width)


def crop_window(geometry: Geometry, height: int, width: int) -> PixelWindow:
    """Return the centred window that a view keeps of its scaled picture."""
    if geometry.crop is None:
        return PixelWindow(0, 0, height, width)
    crop_height, crop_width = min(geometry.crop[0], height), min(geometry.crop[1], width)
    return PixelWindow(
        _middle(height - crop_height, geometry),
        _middle(width - crop_width, geometry),
        crop_height,
        crop_width,
    )


def jpeg_scale(geometries: Iterable[Geometry], height: int, width: int, *, factor: int = 1) -> int:
    """Return by what a JPEG's sides may be divided while decoding: 1, 2, 4 or 8.

    Args:
        geometries: of the views.
        height: of the picture, in pixels.
        width: likewise.
        factor: on the oversampling of each geometry.
    """
    room = min((_room(one, height, width) / (factor * one.oversampling) for one in geometries), default=1.0)
    return next((scale for scale in _JPEG_SCALES if scale <= room), 1)


def _room(geometry: Geometry, height: int, width: int) -> float:
    """Return how many pixels of the picture there are for one of the view, along the tighter side."""
    if geometry.fit == "whole":
        return 1.0
    target_height, target_width = scaled_size(geometry, height, width)
    return min(height / target_height, width / target_width)


def _rounded(height: float, width: float) -> tuple[int, int]:
    """Return whole sides of at least one pixel: a 10,000 x 1 picture has a height too."""
    return max(round(height), 1), max(round(width), 1)


def _middle(spare: int, geometry: Geometry) -> int:
    """Return the offset that centres; transformers cuts off where torchvision rounds."""
    return int(spare / 2.0) if geometry.engine == "torchvision" else round(spare / 2.0)
