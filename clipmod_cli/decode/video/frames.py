"""A decoded video frame → its Pictures with the right colours and shape, and its thumbnail.

Interlaced frames are left interlaced.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.geometry import UPRIGHT, Orientation
from clipmod_cli.decode.moving.sampling import THUMBNAIL_SIDE, Thumbnail
from clipmod_cli.decode.stills.colour_spaces import HLG, PQ, linear_light
from clipmod_cli.decode.stills.readings import read_pixels
from clipmod_cli.decode.transforms import Pictures

if TYPE_CHECKING:
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

_BT709, _BT601 = 1, 5
"""swscale's numbers of the two matrices that turn YCbCr into RGB (ITU-R BT.709 and BT.601)."""

_UNSPECIFIED = 2
_HIGH_DEFINITION = (1280, 720)
"""From this width or height on, a stream that does not name its matrix means BT.709, as players guess."""


SQUARE = Fraction(1)
"""The sample aspect ratio of square pixels."""

MAX_STRETCHED_SIDE, MAX_STRETCHED_PIXELS = 8192, 33_554_432
"""Of a frame whose pixels are not square; beyond it both sides are made shorter."""


def displayed_size(width: int, height: int, ratio: Fraction) -> tuple[int, int]:
    """Return (width, height) of a frame with pixels of this width : height; one side is kept, one longer."""
    if ratio == SQUARE:
        return width, height
    wide, high = (width * float(ratio), height) if ratio > 1 else (width, height / float(ratio))
    shrink = max(max(wide, high) / MAX_STRETCHED_SIDE, math.sqrt(wide * high / MAX_STRETCHED_PIXELS), 1.0)
    return max(round(wide / shrink), 1), max(round(high / shrink), 1)


def make_pictures(frame: VideoFrame, reformatter: VideoReformatter, ratio: Fraction = SQUARE) -> Pictures:
    """Return the frame's readings, to be turned as the video says: several where it is transparent.

    `ratio` is the width : height of its pixels.
    """
    size = displayed_size(frame.width, frame.height, ratio)
    form = "rgba" if may_be_transparent(frame.format) else "rgb24"
    pixels = _convert(frame, reformatter, form, size)
    if frame.color_trc in {PQ, HLG}:
        pixels[..., :3] = _standard_range(frame.color_trc)[pixels[..., :3]]
    orientation = read_orientation(frame)
    height, width = pixels.shape[:2]
    return Pictures(
        readings=read_pixels(np.ascontiguousarray(pixels)),
        size=orientation.store_size((height, width)),
        orientation=orientation,
    )


def may_be_transparent(pixel_format: VideoFormat | None) -> bool:
    """Return whether frames of a format can have alpha; None if it is not known yet."""
    if pixel_format is None:
        return False
    return pixel_format.name == "pal8" or any(part.is_alpha for part in pixel_format.components)


def make_thumbnail(frame: VideoFrame, reformatter: VideoReformatter) -> Thumbnail:
    """Return the whole frame as `(n, 32, 32, 3)` RGB, each cell the mean of what it covers.

    One that can be transparent is there on white, on black and without alpha.
    """
    side = THUMBNAIL_SIDE
    if not may_be_transparent(frame.format):
        small = reformatter.reformat(frame, side, side, "rgb24", interpolation="AREA", threads=1)
        return np.asarray(small.to_ndarray(), np.uint8)[None]
    whole = Image.fromarray(np.asarray(reformatter.reformat(frame, format="rgba").to_ndarray(), np.uint8))
    on_black = np.asarray(whole.convert("RGBa").resize((side, side), Image.Resampling.BOX))
    bare = np.asarray(whole.convert("RGB").resize((side, side), Image.Resampling.BOX))
    page = 255 - on_black[..., 3:]
    return np.stack([on_black[..., :3] + np.minimum(page, 255 - on_black[..., :3]), on_black[..., :3], bare])


def _convert(
    frame: VideoFrame, reformatter: VideoReformatter, form: str, size: tuple[int, int]
) -> NDArray[np.uint8]:
    matrix = frame.colorspace
    if matrix == _UNSPECIFIED:
        wide, high = _HIGH_DEFINITION
        matrix = _BT709 if frame.width >= wide or frame.height >= high else _BT601
    converted = reformatter.reformat(frame, *size, form, src_colorspace=matrix, threads=1)
    return np.asarray(converted.to_ndarray(), np.uint8)


@cache
def _standard_range(transfer: int) -> NDArray[np.uint8]:
    """Return what each level of an HDR picture becomes, `(256,)`: with a gamma of 2.2.

    The wider primaries are left as they are: colours come out a little pale.
    """
    return np.rint(linear_light(transfer) ** (1 / 2.2) * 255).astype(np.uint8)


_QUARTERS = (
    UPRIGHT,
    Orientation(transposed=True, upside_down=True),
    Orientation(mirrored=True, upside_down=True),
    Orientation(transposed=True, mirrored=True),
)
"""By quarters counterclockwise."""


def read_orientation(frame: VideoFrame) -> Orientation:
    """Return how the frame is turned for display, to the nearest quarter.

    Its display matrix (ISO/IEC 14496-12, 8.2.2.3) maps stored (x, y) to displayed
    (a x + c y, b x + d y): nine numbers, of which the first, second, fourth and fifth count.
    """
    from av.sidedata.sidedata import SideData, Type

    try:
        side_data: SideData | None = cast("Any", frame.side_data).get(Type.DISPLAYMATRIX)
    except ValueError:  # other side data is of a type that PyAV does not know
        return _QUARTERS[round(frame.rotation / 90) % 4]
    if side_data is None:
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(side_data)[:36])
    if a == b == c == d == 0:
        return UPRIGHT
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(mirrored=a < 0, upside_down=d < 0)
    return Orientation(transposed=True, mirrored=c < 0, upside_down=b < 0)
