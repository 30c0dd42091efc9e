"""Pixels → the view of a model: exactly as its own library makes it, or fast and antialiased.

The only file of `decode` that uses torch and OpenCV. Both are optional, and imported only for models whose
geometry asks for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.geometry import (
    UPRIGHT,
    Orientation,
    PixelWindow,
    crop_window,
    padded_size,
    scaled_size,
)
from clipmod_cli.errors import ItemError
from clipmod_cli.types import Box, Geometry, UnseenReason

Pixels = NDArray[np.uint8]
"""`(height, width, 3)`, RGB."""

MAX_INTERMEDIATE_PIXELS = 64_000_000
"""Scaling a 30,000 x 1 strip to 224 high would make 1.5 billion pixels; beyond this only the crop is
computed, exact or not."""

_WASTE = 4
"""From this many pixels scaled for one kept, it is faster to compute the crop alone."""

_NUDGE = 1e-6
"""Added to a target length of at most 100,000, so that rounding cannot make it one pixel shorter."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_EXACT_MODULES = {"pillow": (), "torchvision": ("torch", "torchvision.transforms.v2"), "opencv": ("cv2",)}
_FAST_MODULES = {"pillow": (), "torch": ("torch",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A decoded picture, as it is stored.

    Attributes:
        pixels: uint8 `(h, w, 3)` RGB, contiguous and writable.
        size: (height, width) of the original as displayed; where `scale` is above 1, the last
            column or row of `pixels` may be only partly inside it.
        orientation: how the pixels are to be turned for display.
        scale: by what both sides were divided while decoding.
        reading: how colours and transparency were read; `plain` where there is one way only.
    """

    pixels: Pixels
    size: tuple[int, int]
    orientation: Orientation = UPRIGHT
    scale: int = 1
    reading: str = "plain"

    def displayed_box(self, left: int, top: int, width: int, height: int) -> Box:
        """Return the displayed part of the original of which `pixels` holds these columns and rows."""
        scale = self.scale
        stored_height, stored_width = self.orientation.store_size(self.size)
        window = PixelWindow(
            top * scale,
            left * scale,
            min(height * scale, stored_height - top * scale),
            min(width * scale, stored_width - left * scale),
        )
        turned = self.orientation.display_window(window, self.size)
        return Box(turned.left, turned.top, turned.width, turned.height)


class NamedPixels(Protocol):
    """The readings of one picture, each with its name; `stills.readings.Readings` is one."""

    @property
    def unseen(self) -> frozenset[UnseenReason]:
        """Why a person may see something that no reading shows."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[str, Pixels]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """All readings of one decoded picture; made one after the other, to be iterated once.

    Attributes:
        readings: of its colours and transparency.
        size, orientation, scale: those of each `Picture`.
    """

    readings: NamedPixels
    size: tuple[int, int]
    orientation: Orientation = UPRIGHT
    scale: int = 1

    def __len__(self) -> int:
        return len(self.readings)

    def __iter__(self) -> Iterator[Picture]:
        for name, pixels in self.readings:
            yield Picture(
                pixels=pixels,
                size=self.size,
                orientation=self.orientation,
                scale=self.scale,
                reading=name,
            )


def modules_for(geometries: Iterable[Geometry], *, exact: bool) -> tuple[str, ...]:
    """Return the modules that making these views may import.

    A worker imports them before its memory is limited: their libraries map gigabytes.
    """
    names = [
        name
        for geometry in geometries
        for name in (*_FAST_MODULES[geometry.fast], *(_EXACT_MODULES[geometry.engine] if exact else ()))
    ]
    return tuple(dict.fromkeys(names))


def crop_picture(picture: Picture, box: Box) -> Picture:
    """Return a part of the picture; of a scaled one its edges are moved to whole pixels."""
    height, width = picture.size
    if box == (0, 0, width, height):
        return picture
    window = picture.orientation.store_window(
        PixelWindow(box.top, box.left, box.height, box.width), picture.size
    )
    top, left = window.top // picture.scale, window.left // picture.scale
    bottom = math.ceil((window.top + window.height) / picture.scale)
    right = math.ceil((window.left + window.width) / picture.scale)
    return replace(picture, pixels=picture.pixels[top:bottom, left:right], size=(box.height, box.width))


def make_input(picture: Picture, geometry: Geometry, *, exact: bool) -> Pixels:
    """Return the view, contiguous uint8 `(h, w, 3)`.

    With `exact` (which needs `picture.scale` 1) it equals the transform of the library that
    `view.engine` names, before normalisation. Otherwise it is resized antialiased, with the
    geometry of the original size.
    """
    if geometry.fit == "whole":
        return _crop_or_pad(turn(picture.pixels, picture.orientation), geometry)
    target = scaled_size(geometry, *picture.size)
    if exact and _work(picture, geometry, target) <= MAX_INTERMEDIATE_PIXELS:
        upright = turn(picture.pixels, picture.orientation)
        return _crop_or_pad(_resize_exactly(upright, geometry, target), geometry)
    if geometry.fit == "corner":
        resized = _resize_fast(picture, replace(geometry, crop=None), target)
        return _crop_or_pad(_in_corner(resized, padded_size(geometry, *target), geometry.fill), geometry)
    return _pad(_resize_fast(picture, geometry, target), geometry)


def _work(picture: Picture, geometry: Geometry, target: tuple[int, int]) -> int:
    """Return the pixels of the largest array that exact resizing makes beside the picture."""
    padded = max(picture.size) ** 2 if geometry.fit == "corner" else 0
    return max(target[0] * target[1], padded)


def _resize_exactly(pixels: Pixels, geometry: Geometry, target: tuple[int, int]) -> Pixels:
    if geometry.fit == "corner":
        side = max(pixels.shape)
        pixels, target = _in_corner(pixels, (side, side), geometry.fill), geometry.size
    match geometry.engine:
        case "pillow":
            return _resize_pillow(pixels, target, geometry)
        case "torchvision":
            return _resize_torchvision(pixels, target, geometry)
        case "opencv":
            return _resize_opencv(pixels, target, geometry)


def _resize_pillow(pixels: Pixels, target: tuple[int, int], geometry: Geometry) -> Pixels:
    if pixels.shape[:2] == target:
        return pixels
    image = Image.fromarray(pixels).resize((target[1], target[0]), _FILTERS[geometry.resample])
    return np.array(image)


def _resize_torchvision(pixels: Pixels, target: tuple[int, int], geometry: Geometry) -> Pixels:
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    channels_first = torch.from_numpy(pixels).permute(2, 0, 1)  # (3, h, w)
    if target != (1, 1):  # torch's kernel fails an internal assertion for a contiguous column to one pixel
        channels_first = channels_first.contiguous()
    resized = functional.resize(
        channels_first, list(target), interpolation=InterpolationMode(geometry.resample), antialias=True
    )
    result: Pixels = resized.permute(1, 2, 0).numpy()
    return result


def _resize_opencv(pixels: Pixels, target: tuple[int, int], geometry: Geometry) -> Pixels:
    import cv2

    flags = {
        "nearest": cv2.INTER_NEAREST,
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
        "lanczos": cv2.INTER_LANCZOS4,
    }
    return np.asarray(
        cv2.resize(pixels, (target[1], target[0]), interpolation=flags[geometry.resample]), np.uint8
    )


def _resize_fast(picture: Picture, geometry: Geometry, target: tuple[int, int]) -> Pixels:
    """Return the crop of the picture scaled to `target`, turned upright, not padded."""
    window = crop_window(geometry, *target)
    if window.height * window.width > MAX_INTERMEDIATE_PIXELS:
        raise ItemError(
            "too_many_pixels", f"scaled for the model it would be {target[1]} x {target[0]} pixels"
        )
    stored_target = picture.orientation.store_size(target)
    stored_window = picture.orientation.store_window(window, target)
    wasted = target[0] * target[1] > _WASTE * window.height * window.width
    by_torch = geometry.fast == "torch" and geometry.resample in {"bilinear", "bicubic"}
    if by_torch and not wasted:
        kept = _window_of(_resize_torch(picture, stored_target, geometry.resample), stored_window)
    else:
        kept = _resize_window(picture, stored_target, stored_window, geometry)
    return turn(kept, picture.orientation)


def _extent(picture: Picture) -> tuple[float, float]:
    """Return the (height, width) that the original covers of the stored pixels, measured in them."""
    height, width = picture.orientation.store_size(picture.size)
    return height / picture.scale, width / picture.scale


def _resize_torch(picture: Picture, target: tuple[int, int], mode: str) -> Pixels:
    """Return the pixels scaled to `target` by torch's antialiased uint8 kernels, GIL released.

    The scale is given, since torch would take the rounded-up size of a scaled JPEG for its true one and
    shift everything by up to half a pixel.
    """
    import torch
    from torch.nn.functional import interpolate

    if picture.scale == 1 and picture.pixels.shape[:2] == target:
        return picture.pixels
    factors = [(length + _NUDGE) / covered for length, covered in zip(target, _extent(picture), strict=True)]
    # unsqueezed first, or torch would not recognise channels-last and return planes
    batch = torch.from_numpy(picture.pixels).unsqueeze(0).permute(0, 3, 1, 2)  # (1, 3, h, w)
    resized = interpolate(
        batch, scale_factor=factors, mode=mode, antialias=True, recompute_scale_factor=False
    )
    result: Pixels = resized[0, :, : target[0], : target[1]].permute(1, 2, 0).numpy()
    return result


def _resize_window(
    picture: Picture, target: tuple[int, int], window: PixelWindow, geometry: Geometry
) -> Pixels:
    """Return only `window` of the pixels scaled to `target`, by Pillow, antialiased."""
    height, width = _extent(picture)
    down, across = height / target[0], width / target[1]
    box = (
        window.left * across,
        window.top * down,
        min((window.left + window.width) * across, picture.pixels.shape[1]),
        min((window.top + window.height) * down, picture.pixels.shape[0]),
    )
    image = Image.fromarray(picture.pixels)
    # OpenCV's own resize is not antialiased, so a detector's need not be exact: averaging whole pixels
    # first halves the time.
    gap = 1.0 if geometry.engine == "opencv" else None
    scaled = image.resize(
        (window.width, window.height), _FILTERS[geometry.resample], box=box, reducing_gap=gap
    )
    return np.array(scaled)


def turn(pixels: Pixels, orientation: Orientation) -> Pixels:
    """Return stored pixels as they are displayed, contiguous."""
    if orientation == UPRIGHT:
        return np.ascontiguousarray(pixels)
    if orientation.transposed:
        pixels = pixels.transpose(1, 0, 2)
    if orientation.mirrored:
        pixels = pixels[:, ::-1]
    if orientation.upside_down:
        pixels = pixels[::-1]
    return pixels.copy()  # numpy calls a single mirrored column contiguous; torch does not


def _window_of(pixels: Pixels, window: PixelWindow) -> Pixels:
    return pixels[window.top : window.top + window.height, window.left : window.left + window.width]


def _crop_or_pad(pixels: Pixels, geometry: Geometry) -> Pixels:
    return _pad(_window_of(pixels, crop_window(geometry, *pixels.shape[:2])), geometry)


def _pad(pixels: Pixels, geometry: Geometry) -> Pixels:
    """Return the pixels in the middle of a larger crop; an odd pixel goes to the right and below."""
    height, width = pixels.shape[:2]
    if geometry.crop is None or geometry.crop == (height, width):
        return np.ascontiguousarray(pixels)
    canvas = np.full((*geometry.crop, 3), geometry.fill, np.uint8)
    top, left = math.floor((geometry.crop[0] - height) / 2), math.floor((geometry.crop[1] - width) / 2)
    canvas[top : top + height, left : left + width] = pixels
    return canvas


def _in_corner(pixels: Pixels, size: tuple[int, int], fill: int) -> Pixels:
    """Return the pixels padded right and below to (height, width)."""
    canvas = np.full((*size, 3), fill, np.uint8)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return canvas
