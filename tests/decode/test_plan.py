"""Laws of sizes, windows and orientations."""

from __future__ import annotations

import hypothesis
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from clipmod_cli.decode.geometry import (
    EXIF_ORIENTATIONS,
    Orientation,
    PixelWindow,
    crop_window,
    jpeg_scale,
    scaled_size,
)
from clipmod_cli.decode.transforms import Picture, make_input
from clipmod_cli.types import Geometry

TOWER = Geometry(fit="shortest", size=(224, 224), crop=(224, 224))

VIEWS = st.builds(
    Geometry,
    fit=st.sampled_from(["shortest", "longest", "squash", "corner"]),
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    crop=st.none() | st.tuples(st.integers(1, 400), st.integers(1, 400)),
    engine=st.sampled_from(["pillow", "torchvision", "opencv"]),
)
SIDES = st.integers(1, 5000)


@given(geometry=VIEWS, height=SIDES, width=SIDES)
def test_a_scaled_size_has_pixels_and_a_crop_is_inside_it(
    geometry: Geometry, height: int, width: int
) -> None:
    target = scaled_size(geometry, height, width)
    assert min(target) >= 1
    window = crop_window(geometry, *target)
    assert window.top >= 0
    assert window.left >= 0
    assert window.top + window.height <= target[0]
    assert window.left + window.width <= target[1]
    assert min(window.height, window.width) >= 1


@given(geometries=st.lists(VIEWS, min_size=1, max_size=3), height=SIDES, width=SIDES)
def test_a_scaled_jpeg_keeps_twice_what_each_view_needs(
    geometries: list[Geometry], height: int, width: int
) -> None:
    scale = jpeg_scale(geometries, height, width)
    assert scale in {1, 2, 4, 8}
    if scale > 1:
        for geometry in geometries:
            target = scaled_size(geometry, height, width)
            assert height / scale >= 2 * target[0]
            assert width / scale >= 2 * target[1]


def test_a_whole_view_is_never_scaled() -> None:
    assert jpeg_scale([TOWER, Geometry(fit="whole", size=(0, 0))], 8000, 8000) == 1
    assert jpeg_scale([], 8000, 8000) == 1
    assert jpeg_scale([TOWER], 8000, 6000) == 8


@given(
    number=st.integers(1, 8),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    data=st.data(),
)
def test_a_window_is_found_again_in_the_stored_picture(
    number: int, height: int, width: int, data: st.DataObject
) -> None:
    orientation: Orientation = EXIF_ORIENTATIONS[number]
    stored = np.arange(height * width * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
    shown_size = orientation.store_size((height, width))
    whole = Geometry(fit="whole", size=(0, 0))
    shown = make_input(Picture(pixels=stored, size=shown_size, orientation=orientation), whole, exact=True)
    assert shown.shape[:2] == shown_size
    top, left = data.draw(st.integers(0, shown_size[0] - 1)), data.draw(st.integers(0, shown_size[1] - 1))
    window = PixelWindow(top, left, shown_size[0] - top, shown_size[1] - left)
    found = orientation.store_window(window, shown_size)
    cut = stored[found.top : found.top + found.height, found.left : found.left + found.width]
    turned = make_input(
        Picture(pixels=cut, size=(window.height, window.width), orientation=orientation), whole, exact=True
    )
    assert np.array_equal(turned, shown[top:, left:])


@hypothesis.settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    geometry=VIEWS,
    number=st.integers(1, 8),
    exact=st.booleans(),
)
@example(
    size=(2, 1),
    geometry=Geometry(fit="longest", size=(1, 1), resample="bicubic", engine="torchvision"),
    number=1,
    exact=True,
)
def test_any_view_of_any_size_can_be_made(
    size: tuple[int, int], geometry: Geometry, number: int, exact: bool
) -> None:
    orientation = EXIF_ORIENTATIONS[number]
    pixels = np.full((*size, 3), 128, np.uint8)
    picture = Picture(pixels=pixels, size=orientation.store_size(size), orientation=orientation)
    made = make_input(picture, geometry, exact=exact)
    if geometry.crop:
        assert made.shape == (*geometry.crop, 3)
    else:
        expected = geometry.size if geometry.fit == "corner" else scaled_size(geometry, *picture.size)
        assert made.shape == (*expected, 3)
    assert set(np.unique(made)) <= {0, 128} or geometry.fit == "corner"
