"""Which parts of a picture are shown: by laws, and by the spec's own numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.decode.coverage import (
    MAX_SQUARES,
    crops_to_square,
    frames_that_fit,
    geometry_for,
    plan_views,
    shown_share,
    view_scale,
)
from clipmod_cli.decode.limits import MAX_VIEWS, Coverage, DecodeLimits, parse_coverage
from clipmod_cli.errors import SettingsError
from clipmod_cli.types import Box, Geometry

CLIP = Geometry(fit="shortest", size=(224, 224), crop=(224, 224))
SQUASHED = Geometry(fit="squash", size=(224, 224))
CROPPED_AFTER_SQUASHING = Geometry(fit="squash", size=(256, 256), crop=(224, 224))
FRACTION = Geometry(fit="shortest", size=(256, 256), crop=(224, 224), engine="torchvision")
LETTERBOX = Geometry(fit="corner", size=(320, 320), engine="opencv")
PADDED = Geometry(fit="longest", size=(224, 224), crop=(224, 224))
ALL = (CLIP, SQUASHED, CROPPED_AFTER_SQUASHING, FRACTION, LETTERBOX, PADDED)

FULL, CENTRE = Coverage(), Coverage(full=False)
sides = st.integers(1, 30_000)
geometries = st.lists(st.sampled_from(ALL), min_size=1, max_size=3, unique=True)


def covered(boxes: tuple[Box, ...], size: tuple[int, int]) -> float:
    """Return the share of a picture that boxes along one side cover together, counted pixel by pixel."""
    height, width = size
    axis = 0 if width >= height else 1
    line = np.zeros(max(size), dtype=bool)
    for box in boxes:
        start, length = (box.left, box.width) if axis == 0 else (box.top, box.height)
        line[start : start + length] = True
    return float(line.mean())


@pytest.mark.parametrize(
    ("size", "views", "share"),
    [
        ((1000, 1000), 1, 1.0),
        ((1000, 1020), 1, 0.982456),
        ((1000, 1021), 2, 1.0),
        ((900, 1200), 2, 1.0),
        ((1080, 1920), 3, 1.0),
        ((1920, 1080), 3, 1.0),
        ((400, 1600), 7, 1.0),
        ((100, 850), 16, 1.0),
        ((100, 851), 9, 1.0),
        ((100, 1600), 16, 1.0),
        ((100, 2000), 16, 0.8),
    ],
)
def test_a_model_that_crops_is_shown_squares(size: tuple[int, int], views: int, share: float) -> None:
    plan = plan_views(size, [CLIP], FULL)
    assert (len(plan.boxes), plan.coverage) == (views, share)
    assert plan.is_short == (share < 1 and views > 1)


@pytest.mark.parametrize(("size", "views"), [((1000, 1000), 1), ((1000, 2000), 1), ((1000, 2001), 5)])
def test_a_model_that_sees_all_of_it_is_shown_squares_only_of_long_pictures(
    size: tuple[int, int], views: int
) -> None:
    for geometry in (SQUASHED, LETTERBOX, PADDED, CROPPED_AFTER_SQUASHING, FRACTION):
        plan = plan_views(size, [geometry], FULL)
        assert len(plan.boxes) == views
        assert plan.boxes[0] == (0, 0, size[1], size[0])
        assert plan.coverage == 1.0


@pytest.mark.parametrize(
    ("size", "geometry", "share"),
    [
        ((3000, 4000), CLIP, 0.75),
        ((1080, 1920), CLIP, 0.5625),
        ((2340, 1080), CLIP, 0.461538),
        ((400, 1600), CLIP, 0.25),
        ((500, 500), CROPPED_AFTER_SQUASHING, 0.765625),
        ((300, 900), LETTERBOX, 1.0),
    ],
)
def test_the_centre_alone_says_how_little_it_shows(
    size: tuple[int, int], geometry: Geometry, share: float
) -> None:
    plan = plan_views(size, [geometry, SQUASHED], CENTRE)
    assert plan.boxes == (Box(0, 0, size[1], size[0]),)
    assert plan.coverage == pytest.approx(share, abs=0.005)


@given(sides, sides, geometries)
def test_full_coverage_leaves_nothing_out(height: int, width: int, used: list[Geometry]) -> None:
    plan = plan_views((height, width), used, FULL)
    share = covered(plan.boxes, (height, width))
    assert plan.coverage <= share + 1e-6
    ratio = max(height, width) / min(height, width)
    if ratio <= MAX_SQUARES:
        assert share == 1.0
        assert not plan.is_short
    else:
        assert plan.is_short
    for box in plan.boxes:
        assert box.left >= 0
        assert box.top >= 0
        assert box.left + box.width <= width
        assert box.top + box.height <= height
        for geometry in used:
            shown = geometry_for(geometry, FULL)
            whole = box == (0, 0, width, height)
            assert shown_share(shown, (box.height, box.width)) == 1.0 or (whole and crops_to_square(shown))


@given(sides, sides, geometries, st.integers(1, 40))
def test_fewer_views_are_never_a_secret(height: int, width: int, used: list[Geometry], most: int) -> None:
    plan = plan_views((height, width), used, FULL, DecodeLimits(max_views=most))
    assert 1 <= len(plan.boxes) <= most
    if covered(plan.boxes, (height, width)) < 1:
        assert plan.is_short
        assert plan.coverage < 1


@given(sides, sides, geometries)
def test_frames_and_their_views_stay_within_the_budget(height: int, width: int, used: list[Geometry]) -> None:
    frames = frames_that_fit((height, width), used, FULL, DecodeLimits())
    assert 1 <= frames * len(plan_views((height, width), used, FULL).boxes) <= MAX_VIEWS


@given(st.integers(50, 3000), st.integers(50, 3000), st.integers(2, 8))
def test_tiles_cover_the_picture_or_are_as_large_as_it_allows(height: int, width: int, count: int) -> None:
    boxes = set(plan_views((height, width), [SQUASHED], Coverage(tiles=count)).boxes)
    side = min(math.ceil(max(height, width) / count), height, width)
    tiles = {box for box in boxes if (box.width, box.height) == (side, side)}
    assert {(box.left, box.top) for box in tiles} >= {(0, 0), (width - side, height - side)}


def test_the_scale_is_that_of_the_coarsest_model() -> None:
    box = Box(0, 0, 1280, 640)
    assert view_scale([SQUASHED], box) == pytest.approx(1280 / 224, abs=0.001)
    assert view_scale([LETTERBOX], box) == 4.0
    assert view_scale([SQUASHED, LETTERBOX], box) == pytest.approx(1280 / 224, abs=0.001)


@pytest.mark.parametrize(
    ("text", "expected"), [("full", FULL), ("centre", CENTRE), ("tiles=3", Coverage(tiles=3))]
)
def test_coverage_is_read(text: str, expected: Coverage) -> None:
    assert parse_coverage(text) == expected


@pytest.mark.parametrize("text", ["", "all", "tiles", "tiles=1", "tiles=9", "tiles=x", "full=1"])
def test_no_other_coverage_is_read(text: str) -> None:
    with pytest.raises(SettingsError, match="coverage"):
        parse_coverage(text)
