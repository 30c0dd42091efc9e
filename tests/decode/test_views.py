"""The views of a picture: each shows its own part, in whatever way the pixels are stored."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipmod_cli.decode.geometry import EXIF_ORIENTATIONS, Orientation
from clipmod_cli.decode.limits import MAX_VIEWS, Coverage, DecodeLimits, parse_frames
from clipmod_cli.decode.transforms import Picture
from clipmod_cli.decode.views import find_inner
from clipmod_cli.types import Box, Frame, Geometry
from tests.decode.containers import png_with
from tests.decode.pictures import encode, frames, media

CLIP = Geometry(fit="shortest", size=(32, 32), crop=(32, 32))
SEES_ALL = Geometry(fit="corner", size=(32, 32), engine="opencv")
FULL = Coverage()

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


def stripes(height: int, width: int, *, seed: int = 0) -> Image.Image:
    """Return four stripes side by side along the longer side, with some noise, so that none is a border."""
    line = np.repeat(np.array(COLOURS, np.uint8), -(-max(height, width) // 4), axis=0)[: max(height, width)]
    pixels = np.broadcast_to(line[:, None] if height > width else line[None], (height, width, 3)).copy()
    noise = np.random.default_rng(seed).integers(0, 60, pixels.shape, np.uint8)
    return Image.fromarray(np.where(pixels > 128, pixels - noise, pixels + noise))


def turned(picture: Image.Image, orientation: int, name: str) -> bytes:
    """Return a file of a picture that is stored otherwise, and turned upright by its EXIF."""
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    for step in undo.get(orientation, []):
        picture = picture.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(picture, name, exif=exif, **({"quality": 95, "subsampling": 0} if name == "JPEG" else {}))


def views(data: bytes, *geometries: Geometry, **options: Any) -> list[Frame]:
    return frames(data, geometries or (CLIP,), coverage=FULL, **options)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("orientation", EXIF_ORIENTATIONS)
@pytest.mark.parametrize(("name", "size"), [("PNG", (48, 192)), ("JPEG", (400, 1600)), ("JPEG", (1600, 400))])
def test_each_view_shows_its_part(name: str, size: tuple[int, int], orientation: int, exact: bool) -> None:
    shown = views(turned(stripes(*size), orientation, name), exact=exact)
    assert [media(one).height for one in shown] == [size[0]] * 7
    short = min(size)
    for number, one in enumerate(shown):
        box = one.view.box
        start = box.left if size[1] > size[0] else box.top
        assert (start, box.width, box.height) == (number * short // 2, short, short)
        pixels = one.inputs[CLIP].astype(int)
        line = pixels.mean(axis=0) if size[1] > size[0] else pixels.mean(axis=1)
        first, last = COLOURS[number // 2], COLOURS[min((number + 1) // 2, 3)]
        assert np.abs(line[4:12].mean(axis=0) - first).max() < 70
        assert np.abs(line[-12:-4].mean(axis=0) - last).max() < 70


def test_a_square_is_one_view_equal_to_the_middle_of_the_model() -> None:
    data = encode(stripes(200, 200), "PNG")
    (one,) = views(data)
    (centre,) = frames(data, (CLIP,), coverage=Coverage(full=False))
    assert np.array_equal(one.inputs[CLIP], centre.inputs[CLIP])
    assert one.view == centre.view
    assert media(one).coverage == 1.0


def test_models_of_all_kinds_are_shown_the_same_views() -> None:
    shown = views(encode(stripes(100, 300), "PNG"), CLIP, SEES_ALL)
    assert [one.view.box for one in shown] == [
        (0, 0, 300, 100), *((left, 0, 100, 100) for left in (0, 50, 100, 150, 200))
    ]  # fmt: skip
    assert all(set(one.inputs) == {CLIP, SEES_ALL} for one in shown)
    assert media(shown[0]).views == len(shown)


def test_only_the_last_view_ends_the_item() -> None:
    shown = views(encode(stripes(100, 300), "PNG"))
    assert [one.last for one in shown] == [False] * 4 + [True]


def framed(size: int, inner: tuple[int, int, int, int], ground: int = 255) -> Image.Image:
    """Return a square of one grey with stripes at (left, top, width, height)."""
    picture = Image.new("RGB", (size, size), (ground,) * 3)
    picture.paste(stripes(inner[3], inner[2]), inner[:2])
    return picture


def test_a_uniform_border_adds_a_view_without_it_and_replaces_none() -> None:
    shown = views(encode(framed(200, (60, 20, 100, 100)), "PNG"))
    assert [one.view.box for one in shown] == [(0, 0, 200, 200), (60, 20, 100, 100)]


def test_a_noisy_border_of_two_colours_is_one_too() -> None:
    pixels = np.asarray(framed(400, (100, 0, 200, 400), 20)).copy()
    pixels[:, 300:] = 200
    pixels = pixels + np.random.default_rng(1).integers(0, 9, pixels.shape, np.uint8)
    data = encode(Image.fromarray(pixels), "JPEG", quality=80)
    boxes = [one.view.box for one in views(data)]
    assert boxes[0] == (0, 0, 400, 400)
    left = min(box.left for box in boxes[1:])
    assert abs(left - 100) <= 8
    assert abs(max(box.left + box.width for box in boxes[1:]) - 300) <= 8


@pytest.mark.parametrize(
    "picture",
    [stripes(120, 120), Image.new("RGB", (120, 120), "red"), framed(120, (2, 2, 116, 116))],
    ids=["no border", "one colour", "a thin border"],
)
def test_nothing_is_trimmed_where_there_is_no_border_of_a_tenth(picture: Image.Image) -> None:
    assert find_inner(Picture(pixels=np.array(picture), size=(120, 120))) is None
    assert len(views(encode(picture, "PNG"))) == 1


@pytest.mark.parametrize("orientation", EXIF_ORIENTATIONS.values())
def test_the_inner_part_is_told_as_displayed(orientation: Orientation) -> None:
    displayed = np.full((100, 160, 3), 255, np.uint8)
    displayed[10:40, 100:150] = np.asarray(stripes(30, 50))
    window = orientation.store_window(_window(10, 100, 30, 50), (100, 160))
    stored = np.full((*orientation.store_size((100, 160)), 3), 255, np.uint8)
    stored[window.top : window.top + window.height, window.left : window.left + window.width] = np.asarray(
        stripes(window.height, window.width)
    )
    assert find_inner(Picture(pixels=stored, size=(100, 160), orientation=orientation)) == (100, 10, 50, 30)


def _window(top: int, left: int, height: int, width: int) -> Any:
    from clipmod_cli.decode.geometry import PixelWindow

    return PixelWindow(top, left, height, width)


def test_a_small_part_of_a_large_jpeg_keeps_its_detail() -> None:
    """Scaled decoding, which the whole picture allows, would average a chequerboard to grey."""
    board = np.indices((64, 64)).sum(axis=0) // 8 % 2 * 255
    picture = np.full((2048, 2048, 3), 255, np.uint8)
    picture[1000:1064, 1000:1064] = board[..., None]
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95)
    whole, part = views(buffer.getvalue())
    assert whole.view.box == (0, 0, 2048, 2048)
    assert part.view.box.width < 100
    assert part.inputs[CLIP].astype(int).std() > 80


def test_an_animation_has_fewer_frames_rather_than_hidden_parts() -> None:
    pictures = [stripes(40, 320, seed=number) for number in range(120)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    found = views(buffer.getvalue(), frames=_dense())
    assert len(found) <= MAX_VIEWS
    numbers = sorted({one.number for one in found})
    assert 60 <= len(numbers) < 120
    assert {0, 119} <= set(numbers)
    per_frame = {number: [one for one in found if one.number == number] for number in numbers}
    assert all(len(parts) >= 15 for parts in per_frame.values())
    assert media(found[0]).unseen == ("unsampled",)
    assert media(found[0]).frames_total == 120


def _dense() -> Any:
    from clipmod_cli.decode.limits import parse_frames

    return parse_frames("dense")


def test_the_view_says_its_box_and_scale() -> None:
    (one,) = views(encode(stripes(64, 64), "PNG"))
    assert one.view.box == Box(0, 0, 64, 64)
    assert one.view.scale == 2.0


@pytest.mark.parametrize("mode", ["dense", "key", "auto"])
def test_an_animation_has_no_more_views_than_it_may_and_says_so(mode: str) -> None:
    pictures = [stripes(40, 72, seed=number) for number in range(20)]
    data = encode(pictures[0], "PNG", save_all=True, append_images=pictures[1:], duration=100)
    found = views(data, frames=parse_frames(mode), limits=DecodeLimits(max_views=12))
    assert len(found) <= 12
    assert len({one.number for one in found}) < 20
    assert "unsampled" in media(found[0]).unseen


def test_all_parts_of_a_file_share_its_room_for_views() -> None:
    long = [encode(stripes(40, 320, seed=number), "PNG") for number in range(6)]
    whole = views(b"".join(long))
    each = sum(one.number == 0 for one in whole)
    assert (len(whole), media(whole[0]).unseen) == (6 * each, ())
    size = whole[0].inputs[CLIP].nbytes
    for limits in (DecodeLimits(max_views=2 * each + 3), DecodeLimits(max_view_bytes=size * (2 * each + 3))):
        found = views(b"".join(long), limits=limits)
        assert len(found) == 2 * each + 3
        assert {"coverage", "unsampled"} == {*media(found[0]).unseen}


def test_a_part_that_shows_the_same_needs_no_room() -> None:
    picture = stripes(40, 40)
    preview = png_with(picture, b"prVw", encode(picture.resize((20, 20)), "PNG"))
    (only,) = views(preview, limits=DecodeLimits(max_views=1))
    assert media(only).unseen == ()


def test_a_part_inside_a_border_that_has_no_room_is_told() -> None:
    picture = Image.new("RGB", (64, 64), "white")
    picture.paste(stripes(20, 20), (20, 20))
    assert len(views(encode(picture, "PNG"))) == 2
    (only,) = views(encode(picture, "PNG"), limits=DecodeLimits(max_views=1))
    assert media(only).unseen == ("coverage",)
