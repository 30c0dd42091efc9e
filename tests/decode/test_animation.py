"""Animations: the right frames at the right times, never only the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipmod_cli.decode.limits import KEY_FRAMES, MAX_SCORED_FRAMES, parse_frames
from clipmod_cli.types import Frame, Geometry
from tests.decode.pictures import (
    BLUE,
    GREEN,
    QUARTERS,
    RED,
    WHITE,
    WHOLE,
    YELLOW,
    Colour,
    assert_corners,
    encode,
    frame,
    frames,
    media,
    quarters,
)

COLOURS = [RED, GREEN, BLUE, YELLOW]
SETTINGS: dict[str, dict[str, Any]] = {
    "GIF": {},
    "PNG": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 95},
}
TOLERANCE = {"AVIF": 12}


def moving(name: str, colours: Sequence[Colour], duration: int | list[int], **settings: Any) -> bytes:
    shots = [Image.new("RGB", (16, 12), colour) for colour in colours]
    settings = SETTINGS[name] | settings
    return encode(shots[0], name, save_all=True, append_images=shots[1:], duration=duration, **settings)


def shades(count: int) -> list[Colour]:
    """Return colours that tell a frame's number."""
    return [(number % 250, 255 - number % 250, 7 * number % 256) for number in range(count)]


def colour(shot: Frame) -> Colour:
    return tuple(int(channel) for channel in shot.inputs[WHOLE][6, 8])


@pytest.mark.parametrize("name", SETTINGS)
def test_all_frames_of_a_short_animation_come_at_their_times(name: str) -> None:
    shots = frames(moving(name, COLOURS, [100, 300, 200, 400]))
    assert [shot.number for shot in shots] == [0, 1, 2, 3]
    assert [shot.time_s for shot in shots] == [0.0, 0.1, 0.4, 0.6]
    assert [shot.last for shot in shots] == [False, False, False, True]
    for shot, expected in zip(shots, COLOURS, strict=True):
        assert_corners(shot.inputs[WHOLE], [expected] * 4, TOLERANCE.get(name, 0))
    assert (media(shots[0]).kind, media(shots[0]).duration_s) == ("animation", 1.0)
    assert (media(shots[0]).width, media(shots[0]).height) == (16, 12)
    assert media(shots[0]).format == name
    assert not media(shots[0]).truncated


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP"])
def test_delays_of_ten_milliseconds_or_less_count_as_browsers_show_them(name: str) -> None:
    shots = frames(moving(name, COLOURS, [0, 10, 20, 100]))
    assert [shot.time_s for shot in shots] == [0.0, 0.1, 0.2, 0.22]
    assert media(shots[0]).duration_s == 0.32


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "AVIF"])
def test_one_frame_is_a_plain_picture(name: str) -> None:
    result = frame(moving(name, [RED], 100))
    assert (media(result).kind, media(result).duration_s, result.time_s) == ("image", None, 0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max=2", [0, 59]),
        ("max=3", [0, 29, 59]),
        ("fps=1", [0, 10, 20, 30, 40, 50, 59]),
        ("fps=0.1", [0, 59]),
        ("dense", list(range(60))),
    ],
)
def test_the_sampling_decides_which_frames_are_decoded(text: str, expected: list[int]) -> None:
    shots = frames(moving("GIF", shades(60), 100), frames=parse_frames(text))
    assert [shot.number for shot in shots] == expected
    assert [colour(shot) for shot in shots] == [shades(60)[number] for number in expected]
    assert [shot.time_s for shot in shots] == pytest.approx([number / 10 for number in expected])


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_ink_that_shows_on_black_alone_is_found_among_many_frames(name: str) -> None:
    """The pixels are white but for a corner that always changes; one frame is not all transparent."""
    shots = []
    for number in range(400):
        pixels = np.full((32, 32, 4), (255, 255, 255, 0), np.uint8)
        pixels[:8, :8] = *shades(400)[number], 255
        if number == 333:
            pixels[8:, 8:, 3] = 255
        shots.append(Image.fromarray(pixels))
    settings = SETTINGS[name] | ({"exact": True} if name == "WEBP" else {"blend": 0})
    data = encode(shots[0], name, save_all=True, append_images=shots[1:], duration=100, **settings)
    found = {(one.number, one.view.reading) for one in frames(data)}
    assert len({number for number, _ in found}) == MAX_SCORED_FRAMES
    assert (333, "black") in found


@pytest.mark.parametrize("name", SETTINGS)
def test_key_frames_are_bounded_and_span_the_whole(name: str) -> None:
    shots = frames(moving(name, shades(100), 100), frames=parse_frames("key"))
    assert len(shots) == KEY_FRAMES
    assert (shots[0].number, shots[-1].number) == (0, 99)
    for shot in shots:
        assert np.abs(np.subtract(colour(shot), shades(100)[shot.number])).max() <= TOLERANCE.get(name, 0)


def test_pages_of_a_tiff_are_all_looked_at() -> None:
    pages = [Image.new("RGB", (16, 12), RED), Image.new("L", (20, 30), 255), Image.new("1", (8, 8))]
    shots = frames(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert [colour(shot) if shot.number == 0 else None for shot in shots] == [RED, None, None]
    assert [shot.inputs[WHOLE].shape for shot in shots] == [(12, 16, 3), (30, 20, 3), (8, 8, 3)]
    assert [shot.time_s for shot in shots] == [0.0, 1.0, 2.0]
    assert (media(shots[0]).kind, media(shots[0]).duration_s) == ("animation", 3.0)
    assert (media(shots[0]).width, media(shots[0]).height) == (16, 12)


def test_a_big_tiff_has_pages_too() -> None:
    pages = [Image.new("RGB", (16, 12), colour) for colour in COLOURS]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:], big_tiff=True)
    assert [colour(shot) for shot in frames(data)] == COLOURS


def test_pages_that_point_at_each_other_end() -> None:
    pages = [Image.new("RGB", (16, 12), colour) for colour in COLOURS[:2]]
    data = bytearray(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    first = int.from_bytes(data[4:8], "little")
    link = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    second = int.from_bytes(data[link : link + 4], "little")
    back = second + 2 + 12 * int.from_bytes(data[second : second + 2], "little")
    data[back : back + 4] = first.to_bytes(4, "little")
    assert [colour(shot) for shot in frames(bytes(data))] == COLOURS[:2]


def test_a_partial_frame_lies_over_the_one_before() -> None:
    shots = [quarters(), quarters([RED, GREEN, BLUE, RED])]
    for name in ("GIF", "PNG", "WEBP"):
        data = encode(shots[0], name, save_all=True, append_images=shots[1:], duration=100, **SETTINGS[name])
        first, second = frames(data)
        assert_corners(first.inputs[WHOLE], list(QUARTERS))
        assert_corners(second.inputs[WHOLE], [RED, GREEN, BLUE, RED])


def test_transparent_frames_are_composed_on_white() -> None:
    clear = (0, 0, 0, 0)
    shots = [quarters([(*RED, 255), clear, clear, (*BLUE, 255)], "RGBA"), quarters(mode="RGBA")]
    for name in ("GIF", "PNG", "WEBP"):
        data = encode(shots[0], name, save_all=True, append_images=shots[1:], duration=100, **SETTINGS[name])
        assert_corners(frames(data)[0].inputs[WHOLE], [RED, WHITE, WHITE, BLUE])


def test_the_picture_that_other_viewers_show_of_an_apng_is_looked_at() -> None:
    shots = [Image.new("RGB", (16, 12), colour) for colour in COLOURS]
    data = encode(shots[0], "PNG", save_all=True, append_images=shots[1:], duration=100, default_image=True)
    found = frames(data)
    assert [colour(shot) for shot in found] == COLOURS
    assert [shot.time_s for shot in found] == [0.0, 0.0, 0.1, 0.2]


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_an_animation_is_turned_by_its_exif(name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    shots = [quarters().rotate(90, expand=True), quarters([RED] * 4).rotate(90, expand=True)]
    data = encode(
        shots[0], name, save_all=True, append_images=shots[1:], duration=100, exif=exif, **SETTINGS[name]
    )
    found = frames(data)
    assert_corners(found[0].inputs[WHOLE], list(QUARTERS), 16)
    assert (media(found[0]).width, media(found[0]).height) == (48, 32)


def test_views_of_each_frame_are_made() -> None:
    geometry = Geometry(fit="squash", size=(8, 6))
    for shot in frames(moving("GIF", COLOURS, 100), [geometry, WHOLE, geometry]):
        assert list(shot.inputs) == [geometry, WHOLE]
        assert_corners(shot.inputs[geometry], [COLOURS[shot.number]] * 4)


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP"])
def test_one_red_frame_of_four_hundred_is_found(name: str) -> None:
    colours = [(30, 70, 200 + number % 9) for number in range(400)]
    colours[333] = RED
    shots = frames(moving(name, colours, 100))
    assert len(shots) <= MAX_SCORED_FRAMES
    assert 333 in [shot.number for shot in shots]
    assert (media(shots[0]).frames_total, media(shots[0]).unseen) == (400, ())


def test_more_scenes_than_there_is_room_for_are_told() -> None:
    colours = [RED if number % 2 else BLUE for number in range(300)]
    shots = frames(moving("GIF", colours, 50))
    assert len(shots) == MAX_SCORED_FRAMES
    assert (shots[0].number, shots[-1].number) == (0, 299)
    assert media(shots[0]).unseen == ("unsampled",)


def test_an_animation_that_stands_still_for_long_leaves_no_gap() -> None:
    shots = frames(moving("GIF", [BLUE, RED, BLUE], [60_000, 100, 60_000]))
    assert [shot.number for shot in shots] == [0, 1, 2]
    assert (media(shots[0]).largest_gap_s, media(shots[0]).unseen) == (0.0, ())


@pytest.mark.parametrize(("pages", "unseen"), [(MAX_SCORED_FRAMES, ()), (257, ("unsampled",))])
def test_pages_beyond_256_are_told(pages: int, unseen: tuple[str, ...]) -> None:
    shown = [Image.new("L", (4, 4), 9)] * pages
    shots = frames(encode(shown[0], "TIFF", save_all=True, append_images=shown[1:]))
    assert len(shots) == MAX_SCORED_FRAMES
    assert (media(shots[0]).frames_total, media(shots[0]).unseen) == (pages, unseen)
