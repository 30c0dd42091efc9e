"""Exact views equal the libraries' own transforms; fast ones come close, with the same geometry."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import skimage
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.geometry import Picture, make_view
from clipmod_cli.decode.plan import (
    EXIF_ORIENTATIONS,
    Orientation,
    Window,
    crop_window,
    jpeg_scale,
    scaled_size,
)
from clipmod_cli.types import View
from tests.decode.pictures import encode, frame, media

PHOTOGRAPHS = ["astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg"]
TOWER = View(fit="shortest", size=(224, 224), crop=(224, 224))
DETECTOR = View(fit="corner", size=(320, 320), resample="bilinear", engine="opencv")


def photograph(name: str, size: tuple[int, int] | None = None) -> Image.Image:
    with Image.open(Path(skimage.__file__).parent / "data" / name) as picture:
        loaded = picture.convert("RGB")
    return loaded.resize(size, Image.Resampling.BICUBIC) if size else loaded


def exactly(picture: Image.Image, view: View) -> NDArray[np.uint8]:
    return make_view(Picture(pixels=np.array(picture), size=picture.size[::-1]), view, exact=True)


def open_clips(picture: Image.Image, **config: Any) -> NDArray[np.uint8]:
    """Return what open_clip's own transform gives before it becomes a tensor."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    for step in image_transform_v2(PreprocessCfg(**config), is_train=False).transforms[:-2]:
        picture = step(picture)
    return np.array(picture)


SIZES = [
    (512, 512),
    (640, 427),
    (427, 640),
    (225, 224),
    (224, 224),
    (100, 37),
    (1283, 700),
    (300, 2000),
    (500, 3),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("side", [224, 336])
def test_exact_views_are_open_clips_to_the_bit(
    side: int, mode: Any, resample: Any, size: tuple[int, int]
) -> None:
    picture = photograph("astronaut.png", size)
    crop = None if mode == "squash" else (side, side)
    view = View(fit=mode, size=(side, side), crop=crop, resample=resample, fill=128)
    expected = open_clips(picture, size=side, resize_mode=mode, interpolation=resample, fill_color=128)
    assert np.array_equal(exactly(picture, view), expected)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_exact_views_of_unequal_sides_are_open_clips(mode: Any) -> None:
    picture = photograph("coffee.png")
    crop = None if mode == "squash" else (384, 224)
    view = View(fit=mode, size=(384, 224), crop=crop)
    assert np.array_equal(exactly(picture, view), open_clips(picture, size=(384, 224), resize_mode=mode))


@pytest.mark.parametrize("size", [*SIZES, (227, 512), (229, 300)])
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_exact_views_are_those_of_transformers_to_the_bit(resample: Any, size: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    picture = photograph("chelsea.png", size)
    plain = {"do_rescale": False, "do_normalize": False, "resample": Image.Resampling[resample.upper()]}
    squash = transformers.ViTImageProcessor(size={"height": 224, "width": 224}, **plain)
    view = View(fit="squash", size=(224, 224), resample=resample, engine="torchvision")
    assert np.array_equal(exactly(picture, view), processed(squash, picture))
    if min(size) > 3:
        crop = transformers.CLIPImageProcessor(
            size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, **plain
        )
        view = View(fit="shortest", size=(256, 256), crop=(224, 224), resample=resample, engine="torchvision")
        assert np.array_equal(exactly(picture, view), processed(crop, picture))


def processed(processor: Any, picture: Image.Image) -> NDArray[np.uint8]:
    tensor = processor(images=picture, return_tensors="pt")["pixel_values"][0]
    result: NDArray[np.uint8] = tensor.permute(1, 2, 0).numpy()
    return result


def test_the_exact_torchvision_resize_is_torchvisions() -> None:
    import torch
    from torchvision.transforms.v2 import functional

    picture = photograph("rocket.jpg")
    tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    for target, view in [
        ([224], View(fit="shortest", size=(224, 224), resample="bilinear", engine="torchvision")),
        ([200, 300], View(fit="squash", size=(200, 300), resample="bilinear", engine="torchvision")),
    ]:
        expected = functional.resize(tensor, target, antialias=True).permute(1, 2, 0).numpy()
        assert np.array_equal(exactly(picture, view), expected)


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (320, 320), (1283, 701), (100, 50), (319, 321)])
def test_the_exact_detector_view_is_nudenets(size: tuple[int, int]) -> None:
    nudenet = pytest.importorskip("nudenet.nudenet")
    picture = photograph("astronaut.png", size)
    blue_first = np.ascontiguousarray(np.array(picture)[..., ::-1])
    blob = nudenet._read_image(blue_first)[0]  # (1, 3, 320, 320), 0..1, its channels in the order it wants
    expected = blob[0][::-1].transpose(1, 2, 0) * 255
    view = exactly(picture, DETECTOR).astype(np.float32)
    assert view.shape == expected.shape
    assert np.abs(view - expected).max() <= 0.5


def differences(data: bytes, view: View) -> NDArray[np.int64]:
    exact = frame(data, [view], exact=True).views[view].astype(np.int64)
    fast = frame(data, [view]).views[view].astype(np.int64)
    return np.asarray(np.abs(exact - fast))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize(("quality", "subsampling"), [(95, 0), (85, 1), (75, 2)])
@pytest.mark.parametrize("size", [None, (1280, 853), (1283, 857), (2003, 999)])
def test_fast_views_of_photographs_are_close(
    name: str, quality: int, subsampling: int, size: tuple[int, int] | None
) -> None:
    data = encode(photograph(name, size), "JPEG", quality=quality, subsampling=subsampling)
    difference = differences(data, TOWER)
    assert difference.max() <= 8
    assert difference.mean() <= 0.5


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_fast_views_of_twelve_megapixels_are_close(name: str) -> None:
    data = encode(photograph(name, (4003, 3001)), "JPEG", quality=85, subsampling=2)
    for view in (TOWER, View(fit="squash", size=(224, 224), resample="bilinear", engine="torchvision")):
        difference = differences(data, view)
        assert difference.max() <= 8
        assert difference.mean() <= 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_and_turned_jpeg_is_not_shifted(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photograph("coffee.png", (1999, 1333)), "JPEG", quality=92, exif=exif)
    assert differences(data, View(fit="squash", size=(150, 150))).max() <= 6
    assert differences(data, View(fit="shortest", size=(150, 150), crop=(150, 150))).max() <= 6


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("fit", ["shortest", "longest", "squash", "corner"])
@pytest.mark.parametrize("engine", ["pillow", "torchvision", "opencv"])
def test_every_combination_gives_the_same_shape_fast_and_exact(engine: Any, fit: Any, resample: Any) -> None:
    picture = photograph("chelsea.png")
    for crop in (None, (90, 70), (150, 200)):
        view = View(fit=fit, size=(120, 120), crop=crop, resample=resample, engine=engine, fill=3)
        pixels = np.array(picture)
        made = [
            make_view(Picture(pixels=pixels, size=picture.size[::-1]), view, exact=exact)
            for exact in (False, True)
        ]
        assert made[0].shape == made[1].shape
        for view_pixels in made:
            assert view_pixels.dtype == np.uint8
            assert view_pixels.flags.c_contiguous
        if resample != "nearest" and engine != "opencv":
            assert np.abs(made[0].astype(int) - made[1]).mean() < 3


def test_the_detectors_fast_view_lies_where_the_exact_one_does() -> None:
    for size in [(640, 427), (427, 641), (1283, 857)]:
        data = encode(photograph("coffee.png", size), "JPEG", quality=92)
        exact = frame(data, [DETECTOR], exact=True).views[DETECTOR]
        fast = frame(data, [DETECTOR]).views[DETECTOR]
        assert np.abs(exact.astype(int) - fast).mean() < 4
        assert abs(int((exact.sum(axis=2) > 0).sum()) - int((fast.sum(axis=2) > 0).sum())) <= 640


def test_a_panorama_is_cut_and_not_scaled_whole() -> None:
    panorama = photograph("coffee.png", (6000, 300))
    data = encode(panorama, "PNG")
    assert differences(data, TOWER).max() <= 3


def test_padding_is_of_the_wanted_grey() -> None:
    data = encode(Image.new("RGB", (40, 20), (200, 10, 10)), "PNG")
    view = View(fit="longest", size=(32, 32), crop=(32, 32), fill=77)
    corner = View(fit="corner", size=(32, 32), fill=9, resample="bilinear")
    for exact in (False, True):
        views = frame(data, [view, corner], exact=exact).views
        assert (views[view][:8] == 77).all()
        assert (views[view][24:] == 77).all()
        assert (views[view][8:24] == (200, 10, 10)).all()
        assert (views[corner][:15] == (200, 10, 10)).all()
        assert (views[corner][17:] == 9).all()


def test_the_same_jpeg_with_and_without_simplejpeg_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    from clipmod_cli.decode import stills

    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            data = encode(
                photograph("coffee.png", (1501, 1001)),
                "JPEG",
                subsampling=subsampling,
                progressive=progressive,
            )
            quick = frame(data, [TOWER]).views[TOWER]
            with monkeypatch.context() as patched:
                patched.setattr(stills, "_simplejpeg", lambda: None)
                by_pillow = frame(data, [TOWER]).views[TOWER]
            assert np.array_equal(quick, by_pillow)


def test_a_grey_and_a_cmyk_jpeg_take_the_fast_way_too() -> None:
    for mode in ("L", "CMYK"):
        data = encode(photograph("coffee.png", (1999, 1333)).convert(mode), "JPEG", quality=92)
        assert differences(data, TOWER).max() <= 6
        assert media(frame(data, [TOWER])).width == 1999


# --- arithmetic -------------------------------------------------------------------------------------

VIEWS = st.builds(
    View,
    fit=st.sampled_from(["shortest", "longest", "squash", "corner"]),
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    crop=st.none() | st.tuples(st.integers(1, 400), st.integers(1, 400)),
    engine=st.sampled_from(["pillow", "torchvision", "opencv"]),
)
SIDES = st.integers(1, 5000)


@given(view=VIEWS, height=SIDES, width=SIDES)
def test_a_scaled_size_has_pixels_and_a_crop_is_inside_it(view: View, height: int, width: int) -> None:
    target = scaled_size(view, height, width)
    assert min(target) >= 1
    window = crop_window(view, *target)
    assert window.top >= 0
    assert window.left >= 0
    assert window.top + window.height <= target[0]
    assert window.left + window.width <= target[1]
    assert min(window.height, window.width) >= 1


@given(views=st.lists(VIEWS, min_size=1, max_size=3), height=SIDES, width=SIDES)
def test_a_scaled_jpeg_keeps_twice_what_each_view_needs(views: list[View], height: int, width: int) -> None:
    scale = jpeg_scale(views, height, width)
    assert scale in {1, 2, 4, 8}
    if scale > 1:
        for view in views:
            target = scaled_size(view, height, width)
            assert height / scale >= 2 * target[0]
            assert width / scale >= 2 * target[1]


def test_a_whole_view_is_never_scaled() -> None:
    assert jpeg_scale([TOWER, View(fit="whole", size=(0, 0))], 8000, 8000) == 1
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
    whole = View(fit="whole", size=(0, 0))
    shown = make_view(Picture(pixels=stored, size=shown_size, orientation=orientation), whole, exact=True)
    assert shown.shape[:2] == shown_size
    top, left = data.draw(st.integers(0, shown_size[0] - 1)), data.draw(st.integers(0, shown_size[1] - 1))
    window = Window(top, left, shown_size[0] - top, shown_size[1] - left)
    found = orientation.store_window(window, shown_size)
    cut = stored[found.top : found.top + found.height, found.left : found.left + found.width]
    turned = make_view(
        Picture(pixels=cut, size=(window.height, window.width), orientation=orientation), whole, exact=True
    )
    assert np.array_equal(turned, shown[top:, left:])


@hypothesis.settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    view=VIEWS,
    number=st.integers(1, 8),
    exact=st.booleans(),
)
def test_any_view_of_any_size_can_be_made(
    size: tuple[int, int], view: View, number: int, exact: bool
) -> None:
    orientation = EXIF_ORIENTATIONS[number]
    pixels = np.full((*size, 3), 128, np.uint8)
    picture = Picture(pixels=pixels, size=orientation.store_size(size), orientation=orientation)
    made = make_view(picture, view, exact=exact)
    if view.crop:
        assert made.shape == (*view.crop, 3)
    else:
        expected = view.size if view.fit == "corner" else scaled_size(view, *picture.size)
        assert made.shape == (*expected, 3)
    assert set(np.unique(made)) <= {0, 128} or view.fit == "corner"


def test_a_heic_picture_is_read_where_it_is_allowed() -> None:
    heif = pytest.importorskip("pillow_heif")
    from tests.decode.pictures import QUARTERS, WHOLE, assert_corners, failure, quarters

    buffer = io.BytesIO()
    heif.from_pillow(quarters(size=(96, 64))).save(buffer, quality=95)
    result = frame(buffer.getvalue(), heic=True)
    assert_corners(result.views[WHOLE], list(QUARTERS), 16)
    assert (media(result).format, media(result).width) == ("HEIF", 96)
    refused = failure(buffer.getvalue())
    assert refused.code == "unsupported_format"
    assert "clipmod[heic]" in refused.message
    assert failure(buffer.getvalue()[:600], heic=True).code == "decode_error"
