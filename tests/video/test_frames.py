"""Pixels: right colours from every odd pixel format, and odd sizes."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.video.frames import make_pictures
from clipmod_cli.types import Geometry
from tests.decode.pictures import QUARTERS, assert_corners, media, quarters
from tests.video.films import WHOLE, scene, seen, write_film


@pytest.mark.parametrize(
    ("extension", "codec", "pix_fmt"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mp4", "libx264", "yuv444p"),
        ("mp4", "libx264", "yuv420p10le"),
        ("mp4", "libx264", "yuv444p10le"),
        ("mkv", "mjpeg", "yuvj420p"),
        ("mkv", "ffv1", "yuv422p10le"),
        ("mkv", "ffv1", "bgr0"),
        ("mkv", "ffv1", "gbrp16le"),
        ("mov", "qtrle", "rgb24"),
        ("avi", "rawvideo", "bgr24"),
        ("mov", "png", "rgba"),
    ],
)
def test_colours_are_right(tmp_path: Path, extension: str, codec: str, pix_fmt: str) -> None:
    film = write_film(
        tmp_path / f"film.{extension}", [quarters(size=(96, 64))] * 2, codec=codec, pix_fmt=pix_fmt
    )
    frame = seen(film)[0]
    assert_corners(frame.inputs[WHOLE], QUARTERS, tolerance=12)


def test_the_matrix_of_high_definition_is_its_own(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", [quarters(size=(1280, 720))] * 2, codec="mpeg4")
    tagged = {"colorspace": "bt709"}
    named = write_film(tmp_path / "named.mp4", [quarters(size=(96, 64))] * 2, options=tagged, codec="libx264")
    assert seen(film)
    assert seen(named)


def test_grey_is_grey(tmp_path: Path) -> None:
    grey = [Image.new("RGB", (64, 48), (120, 120, 120))] * 2
    film = write_film(tmp_path / "film.mkv", grey, codec="ffv1", pix_fmt="gray")
    assert_corners(seen(film)[0].inputs[WHOLE], [(120, 120, 120)] * 4, tolerance=3)


def shown(frame: av.VideoFrame) -> dict[str, NDArray[np.uint8]]:
    from av.video.reformatter import VideoReformatter

    return {picture.reading: picture.pixels for picture in make_pictures(frame, VideoReformatter())}


@pytest.mark.parametrize("form", ["rgba", "yuva420p", "ya8", "pal8"])
def test_transparency_shows_any_page(form: str) -> None:
    clear = np.zeros((48, 64, 4), np.uint8)
    clear[:, 32:] = 255
    clear[:, 32:, :3] = 60
    frame = av.VideoFrame.from_ndarray(clear, format="rgba")
    if form == "pal8":
        indices = np.zeros((48, 64), np.uint8)
        indices[:, 32:] = 1
        palette = np.zeros((256, 4), np.uint8)
        palette[1] = (255, 60, 60, 60)
        frame = av.VideoFrame.from_ndarray((indices, palette), format="pal8")  # type: ignore[arg-type]
    elif form != "rgba":
        frame = frame.reformat(format=form)
    found = shown(frame)
    assert [*found] == ["white", "black", "grey"]
    for page, pixels in zip((255, 0, 128), found.values(), strict=True):
        assert np.abs(pixels[24, 8].astype(int) - page).max() <= 3
        assert np.abs(pixels[24, 56].astype(int) - 60).max() <= 6


@pytest.mark.parametrize("transparent", [True, False])
def test_alpha_of_vp9_is_told(tmp_path: Path, transparent: bool) -> None:
    form = "yuva420p" if transparent else "yuv420p"
    film = write_film(tmp_path / "film.webm", scene(2), codec="libvpx-vp9", pix_fmt=form)
    assert media(seen(film)[0]).unseen == (("other_content",) if transparent else ())


@pytest.mark.parametrize(("transfer", "white"), [(16, 148), (18, 191)])
def test_high_dynamic_range_becomes_what_a_screen_shows(transfer: int, white: int) -> None:
    """A sheet of paper at 203 cd/m2 is 58 % of PQ's scale and 75 % of HLG's (ITU-R BT.2408)."""
    level = np.full((48, 64, 3), white, np.uint8)
    frame = av.VideoFrame.from_ndarray(level, format="rgb24")
    frame.color_trc = transfer
    assert shown(frame)["plain"].min() > 245
    dark = av.VideoFrame.from_ndarray(level // 2, format="rgb24")
    dark.color_trc = transfer
    assert shown(dark)["plain"].max() < 150


@pytest.mark.parametrize("size", [(95, 63), (17, 33), (2, 2), (1, 1), (640, 2)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    film = write_film(tmp_path / "film.mkv", scene(2, size=size), codec="ffv1", pix_fmt="yuv444p")
    frame = seen(film)[0]
    assert (media(frame).width, media(frame).height) == size
    assert frame.inputs[WHOLE].shape == (size[1], size[0], 3)


def test_views_are_those_of_pictures(tmp_path: Path) -> None:
    square = Geometry(fit="shortest", size=(32, 32), crop=(32, 32))
    film = write_film(tmp_path / "film.mp4", scene(3))
    for frame in seen(film, geometries=[square, WHOLE]):
        assert frame.inputs[square].shape == (32, 32, 3)
        assert frame.inputs[WHOLE].shape == (64, 96, 3)
