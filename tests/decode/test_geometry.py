"""Fast views come close to the exact ones, with the same geometry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.geometry import scaled_size
from clipmod_cli.decode.transforms import Picture, make_input
from clipmod_cli.types import Geometry
from tests.decode.photographs import DETECTOR, PHOTOGRAPHS, TOWER, photograph
from tests.decode.pictures import encode, frame, media


def differences(data: bytes, geometry: Geometry) -> NDArray[np.int64]:
    exact = frame(data, [geometry], exact=True).inputs[geometry].astype(np.int64)
    fast = frame(data, [geometry]).inputs[geometry].astype(np.int64)
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
    for geometry in (
        TOWER,
        Geometry(fit="squash", size=(224, 224), resample="bilinear", engine="torchvision"),
    ):
        difference = differences(data, geometry)
        assert difference.max() <= 8
        assert difference.mean() <= 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_and_turned_jpeg_is_not_shifted(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photograph("coffee.png", (1999, 1333)), "JPEG", quality=92, exif=exif)
    assert differences(data, Geometry(fit="squash", size=(150, 150))).max() <= 6
    assert differences(data, Geometry(fit="shortest", size=(150, 150), crop=(150, 150))).max() <= 6


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("fit", ["shortest", "longest", "squash", "corner"])
@pytest.mark.parametrize("engine", ["pillow", "torchvision", "opencv"])
def test_every_combination_gives_the_same_shape_fast_and_exact(engine: Any, fit: Any, resample: Any) -> None:
    picture = photograph("chelsea.png")
    for crop in (None, (90, 70), (150, 200)):
        geometry = Geometry(fit=fit, size=(120, 120), crop=crop, resample=resample, engine=engine, fill=3)
        pixels = np.array(picture)
        made = [
            make_input(Picture(pixels=pixels, size=picture.size[::-1]), geometry, exact=exact)
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
        exact = frame(data, [DETECTOR], exact=True).inputs[DETECTOR]
        fast = frame(data, [DETECTOR]).inputs[DETECTOR]
        assert np.abs(exact.astype(int) - fast).mean() < 4
        assert abs(int((exact.sum(axis=2) > 0).sum()) - int((fast.sum(axis=2) > 0).sum())) <= 640


def test_a_panorama_is_cut_and_not_scaled_whole() -> None:
    panorama = photograph("coffee.png", (6000, 300))
    data = encode(panorama, "PNG")
    assert differences(data, TOWER).max() <= 3


@given(height=st.integers(1, 400), width=st.integers(1, 400), fill=st.sampled_from([0, 114]))
def test_padding_up_to_a_stride_leaves_out_padding_only(height: int, width: int, fill: int) -> None:
    pixels = np.random.default_rng(height * 401 + width).integers(1, 256, (height, width, 3), np.uint8)
    picture = Picture(pixels=pixels, size=(height, width))
    square = replace(DETECTOR, fill=fill)
    whole = make_input(picture, square, exact=False)
    kept = make_input(picture, replace(square, stride=32), exact=False)
    rows, columns = kept.shape[:2]
    assert rows % 32 == columns % 32 == 0
    assert (kept == whole[:rows, :columns]).all()
    assert (whole[rows:] == fill).all()
    assert (whole[:, columns:] == fill).all()
    wanted = scaled_size(square, height, width)
    assert all(0 <= have - want < 32 for have, want in zip((rows, columns), wanted, strict=True))


def test_padding_is_of_the_wanted_grey() -> None:
    data = encode(Image.new("RGB", (40, 20), (200, 10, 10)), "PNG")
    geometry = Geometry(fit="longest", size=(32, 32), crop=(32, 32), fill=77)
    corner = Geometry(fit="corner", size=(32, 32), fill=9, resample="bilinear")
    for exact in (False, True):
        geometries = frame(data, [geometry, corner], exact=exact).inputs
        assert (geometries[geometry][:8] == 77).all()
        assert (geometries[geometry][24:] == 77).all()
        assert (geometries[geometry][8:24] == (200, 10, 10)).all()
        assert (geometries[corner][:15] == (200, 10, 10)).all()
        assert (geometries[corner][17:] == 9).all()


def test_the_same_jpeg_with_and_without_simplejpeg_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    from clipmod_cli.decode.stills import pictures

    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            data = encode(
                photograph("coffee.png", (1501, 1001)),
                "JPEG",
                subsampling=subsampling,
                progressive=progressive,
            )
            quick = frame(data, [TOWER]).inputs[TOWER]
            with monkeypatch.context() as patched:
                patched.setattr(pictures, "load_simplejpeg", lambda: None)
                by_pillow = frame(data, [TOWER]).inputs[TOWER]
            assert np.array_equal(quick, by_pillow)


def test_a_grey_and_a_cmyk_jpeg_take_the_fast_way_too() -> None:
    for mode in ("L", "CMYK"):
        data = encode(photograph("coffee.png", (1999, 1333)).convert(mode), "JPEG", quality=92)
        assert differences(data, TOWER).max() <= 6
        assert media(frame(data, [TOWER])).width == 1999
