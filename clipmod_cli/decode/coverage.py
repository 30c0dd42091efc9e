"""Which parts of a picture the models are shown, so that nothing that a person sees is missed. Numbers only.

A text-image model cuts the middle square out of a picture; a detector sees all of it, but small. So the
views depend on what the geometries of the models do to a picture, never on the kind of a model.
Sizes are (height, width) of pictures as displayed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from clipmod_cli.decode.geometry import scaled_size
from clipmod_cli.decode.limits import Coverage, DecodeLimits
from clipmod_cli.types import Box, Geometry

NEARLY_SQUARE = 1.02
"""Up to this ratio of the sides one view is enough: at most 2 % are cut off."""

DETAIL_RATIO = 2.0
"""Beyond it, a picture that is shown as a whole is so small that squares are shown beside it."""

HALF_STEPS_RATIO = 8.5
"""Up to this ratio squares follow each other by half a side, so that what lies across the edge of one is
whole in another; beyond it by a whole side."""

MAX_SQUARES = 16
"""Squares of one picture: enough for 8.5:1 by half steps, and for 16:1 by whole ones."""


PLANS = 256
"""Kept, since pictures of a run mostly have few sizes, and the plan of one is made twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPlan:
    """The views of one picture.

    Attributes:
        boxes: the parts that are shown, each to all models; not empty.
        coverage: the least share of the picture that any model is shown, 0..1.
        is_short: there are fewer views than full coverage needs.
    """

    boxes: tuple[Box, ...]
    coverage: float
    is_short: bool = False


def plan_views(
    size: tuple[int, int],
    geometries: Iterable[Geometry],
    coverage: Coverage,
    limits: DecodeLimits = DecodeLimits(),  # noqa: B008 — frozen
) -> ViewPlan:
    """Return which parts of a picture are shown.

    Args:
        size: (height, width) of the picture as displayed.
        geometries: those of the models.
        coverage: how much is to be shown.
        limits: how many views there may be; where more are needed, squares lie further apart.
    """
    return _plan(size, tuple(geometries), coverage, limits)


@lru_cache(maxsize=PLANS)
def _plan(
    size: tuple[int, int], geometries: tuple[Geometry, ...], coverage: Coverage, limits: DecodeLimits
) -> ViewPlan:
    height, width = size
    whole = Box(0, 0, width, height)
    used = [geometry_for(geometry, coverage) for geometry in geometries]
    shown = min((shown_share(geometry, size) for geometry in used), default=1.0)
    if not coverage.full:
        return ViewPlan(boxes=(whole,), coverage=shown)
    most = most_views(used, size, limits)
    crops = [crops_to_square(geometry) for geometry in used]
    ratio = max(size) / min(size)
    boxes: list[Box] = []
    if ratio <= NEARLY_SQUARE or not all(crops):
        boxes.append(whole)
    if ratio > (NEARLY_SQUARE if any(crops) else DETAIL_RATIO):
        squares = _squares(size, max(most - len(boxes), 1))
        boxes += squares
        shown = min(len(squares) / ratio, 1.0)
    boxes = list(dict.fromkeys([*boxes, *(_tiles(size, coverage.tiles) if coverage.tiles else ())]))
    return ViewPlan(
        boxes=tuple(boxes[:most]),
        coverage=round(shown, 6),
        is_short=(ratio > NEARLY_SQUARE and shown < 1) or len(boxes) > most,
    )


def geometry_for(geometry: Geometry, coverage: Coverage) -> Geometry:
    """Return the geometry by which a model is shown a view.

    With full coverage a model whose own transform crops a square too (open_nsfw, classifiers with a crop
    fraction) is shown all of it, squashed to its input.
    """
    if not coverage.full or geometry.crop is None or crops_to_square(geometry):
        return geometry
    if geometry.fit in {"longest", "squash"} and _covers(geometry):
        return geometry  # the crop only pads
    return replace(geometry, fit="squash", size=geometry.crop, crop=None)


def crops_to_square(geometry: Geometry) -> bool:
    """Return whether the geometry cuts the middle square out of a picture, and loses nothing of a square.

    A model that does its own scaling (`whole`) is taken for one that does.
    """
    if geometry.fit == "whole":
        return geometry.crop is None
    crop = geometry.crop
    return geometry.fit == "shortest" and crop is not None and crop[0] == crop[1] and _covers(geometry)


def _covers(geometry: Geometry) -> bool:
    crop = geometry.crop or geometry.size
    return crop[0] >= geometry.size[0] and crop[1] >= geometry.size[1]


def shown_share(geometry: Geometry, size: tuple[int, int]) -> float:
    """Return which share of a picture the geometry leaves in its crop, 0..1."""
    if geometry.crop is None:
        return 1.0
    scaled = scaled_size(geometry, *size)
    shares = (min(kept / length, 1.0) for kept, length in zip(geometry.crop, scaled, strict=True))
    return round(math.prod(shares), 6)


def view_scale(geometries: Iterable[Geometry], box: Box) -> float:
    """Return the displayed pixels of a box for one pixel of a model's input: the most of any model."""
    sizes = [(box.height, box.width, *scaled_size(each, box.height, box.width)) for each in geometries]
    scales = (max(height / high, width / wide) for height, width, high, wide in sizes)
    return round(max(scales, default=1.0), 3)


def frames_that_fit(
    size: tuple[int, int], geometries: Sequence[Geometry], coverage: Coverage, limits: DecodeLimits
) -> int:
    """Return how many frames of this size can be scored within the limits of one input; at least one."""
    plan = plan_views(size, geometries, coverage, limits)
    return max(most_views(geometries, size, limits) // len(plan.boxes), 1)


def most_views(geometries: Iterable[Geometry], size: tuple[int, int], limits: DecodeLimits) -> int:
    """Return how many views of a picture of this size one input may have; at least one."""
    square = (min(size), min(size))
    sides = [geometry.crop or scaled_size(geometry, *square) for geometry in geometries]
    return max(min(limits.max_views, limits.max_view_bytes // max(3 * sum(map(math.prod, sides)), 1)), 1)


def _squares(size: tuple[int, int], most: int) -> list[Box]:
    """Return squares along the longer side, evenly from its start to its end."""
    shorter, longer = min(size), max(size)
    ratio = longer / shorter
    step = 0.5 if ratio <= HALF_STEPS_RATIO else 1.0
    count = min(math.ceil(round((ratio - 1) / step, 6)) + 1, MAX_SQUARES, most)
    starts = _starts(longer - shorter, count)
    if size[0] > size[1]:
        return [Box(0, start, shorter, shorter) for start in starts]
    return [Box(start, 0, shorter, shorter) for start in starts]


def _starts(spare: int, count: int) -> Iterator[int]:
    if count == 1:
        yield spare // 2
        return
    for number in range(count):
        yield round(spare * number / (count - 1))


def _tiles(size: tuple[int, int], count: int) -> list[Box]:
    """Return `count` x `count` squares that cover the picture, or overlap least where it is long."""
    height, width = size
    side = min(math.ceil(max(size) / count), height, width)
    return [
        Box(left, top, side, side)
        for top in _starts(height - side, count)
        for left in _starts(width - side, count)
    ]
