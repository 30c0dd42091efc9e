"""Which frames are looked at: what the default finds and misses, what `dense` finds, and that it ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmod_cli.decode.moving.sampling import (
    SAME_LEVELS,
    FrameSelection,
    KeptFrame,
    Room,
    look_alike,
    measure_change,
)
from clipmod_cli.types import Box, Geometry, View, ViewInputs
from tests.video.films import moving, picture, red_times, scene, seen, times, write_film

GEOMETRY = Geometry(fit="whole", size=(0, 0))


def test_key_looks_at_key_frames_and_the_last(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scene(60, range(20, 40)), keys=(20, 40))
    assert times(seen(film)) == [0, 2, 4, 5.9]


def test_key_finds_a_scene_that_begins_with_a_key_frame_and_misses_one_inside_a_group(tmp_path: Path) -> None:
    flash = range(25, 27)
    cut = write_film(tmp_path / "cut.mp4", scene(60, flash), keys=(25, 27))
    assert red_times(seen(cut)) == [2.5]
    hidden = write_film(tmp_path / "hidden.mp4", scene(60, flash))
    assert red_times(seen(hidden)) == []
    assert red_times(seen(hidden, "dense")) == [2.5]
    assert red_times(seen(hidden, "fps=10")) == [2.5]


def test_the_last_frame_is_looked_at_though_it_is_no_key_frame(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scene(60, [59]))
    assert red_times(seen(film)) == [5.9]


@pytest.mark.parametrize("extension", ["mp4", "mkv", "avi", "ts"])
def test_gaps_between_key_frames_are_filled(tmp_path: Path, extension: str) -> None:
    film = write_film(tmp_path / f"film.{extension}", moving(scene(300, range(90, 130))), keys=(250,))
    found = times(seen(film))
    assert {0.0, 25.0, 29.9} <= {round(time_s, 2) for time_s in found}
    assert max(b - a for a, b in pairwise(found)) <= 10.001
    assert red_times(seen(film)) == pytest.approx([10.0], abs=0.1)
    finer = times(seen(film, max_gap_s=3.0))
    assert max(b - a for a, b in pairwise(finer)) <= 3.001
    assert len(finer) <= 14


def test_a_gap_below_the_limit_is_not_filled(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scene(180, range(90, 180)), keys=(90,))
    assert times(seen(film)) == [0, 9, 17.9]


def test_dense_finds_two_frames_in_ten_minutes(tmp_path: Path) -> None:
    flash = range(3111, 3113)
    film = write_film(tmp_path / "film.mp4", scene(6000, flash), options={"preset": "ultrafast"})
    frames = seen(film, "dense")
    assert len(frames) <= 256
    assert {311.1} <= set(red_times(frames)) <= {311.1, 311.2}
    assert red_times(seen(film)) == []


def test_frames_a_second_follow_the_clock(tmp_path: Path) -> None:
    changing = [picture("red circle" if number % 2 else "blue square") for number in range(40)]
    film = write_film(tmp_path / "film.mp4", changing)
    assert times(seen(film, "fps=2")) == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 3.9]
    assert len(seen(film, "fps=100")) == 40


def test_a_still_scene_is_scored_once(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scene(100), gop=5)
    assert times(seen(film)) == [0, 9.9]


def test_what_can_be_seen_to_differ_is_not_left_out(tmp_path: Path) -> None:
    dot = scene(40)
    for number in range(20, 40):
        dot[number] = dot[number].copy()
        dot[number].paste((200, 200, 200), (4, 4, 8, 8))
    film = write_film(tmp_path / "film.mp4", dot, keys=(20,))
    assert 2.0 in times(seen(film))


def test_ink_that_shows_on_black_alone_is_found_in_a_film(tmp_path: Path) -> None:
    """White throughout, and in two frames no longer all transparent: seen where the page is black."""
    pixels = np.full((60, 64, 96, 4), 255, np.uint8)
    pixels[..., 3] = 0
    pixels[25:27, 16:48, 32:64, 3] = 255
    with av.open(str(tmp_path / "film.mov"), "w") as film:
        stream = film.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgba"
        for one in pixels:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(one, format="rgba")))
        film.mux(stream.encode())
    found = seen(tmp_path / "film.mov", "auto")
    assert 2.5 in [one.time_s for one in found if one.view.reading == "black"]


def _grey(level: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((4, 4, 3), level, np.uint8)


def _view(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> ViewInputs:
    return ViewInputs(View(box=Box(0, 0, 4, 4)), {GEOMETRY: pixels})


def test_frames_look_alike_only_where_no_value_differs_visibly() -> None:
    one = _grey(100)
    other = one.copy()
    other[2, 3, 1] += SAME_LEVELS
    assert look_alike([_view(one)], [_view(other)])
    other[2, 3, 1] += 1
    assert not look_alike([_view(one)], [_view(other)])
    assert not look_alike([_view(one), _view(one)], [_view(one), _view(other)])
    assert not look_alike([_view(one)], [_view(one), _view(one)])


def test_a_change_of_colour_alone_is_a_change() -> None:
    red, blue = np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 98
    blue[..., 2] = 255  # as dark as the red, by BT.601
    assert measure_change(red, blue) > 200


def test_a_change_of_one_reading_alone_is_a_change() -> None:
    one, both = _grey(255)[None], np.stack([_grey(255), _grey(0)])
    assert measure_change(one, one) == measure_change(both, both) == 0
    for before, after in ((one, both), (both, one), (both, both[::-1])):
        assert measure_change(before, after) == 255


def select(levels: Sequence[int], most: int, step_s: float = 1.0) -> list[KeptFrame]:
    chosen: FrameSelection[int] = FrameSelection(
        Room(frames=most), lambda level: [_view(_grey(level))], lambda level: _grey(level)[None]
    )
    for number, level in enumerate(levels):
        chosen.offer(number * step_s, number, level)
    return chosen.close()


def test_a_first_frame_without_views_is_allowed() -> None:
    chosen: FrameSelection[int] = FrameSelection(
        Room(frames=4), lambda level: [_view(_grey(level))] if level else [], lambda level: _grey(level)[None]
    )
    for number, level in enumerate((0, 90, 250)):
        chosen.offer(number, number, level)
    assert [len(one.views) for one in chosen.close()] == [0, 1, 1]


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=120),
    st.integers(1, 20),
    st.floats(0.001, 1000, allow_nan=False),
)
def test_selection_laws(levels: list[int], most: int, step_s: float) -> None:
    kept = select(levels, most, step_s)
    stamps = [one.stamp for one in kept]
    assert 1 <= len(kept) <= most
    assert stamps[0] == 0
    assert stamps == sorted(set(stamps), key=lambda stamp: stamp or 0)
    assert most == 1 or stamps[-1] == len(levels) - 1
    for one in kept:
        assert one.views[0].inputs[GEOMETRY][0, 0, 0] == levels[one.stamp or 0]


@given(st.lists(st.integers(0, 25), min_size=1, max_size=40))
def test_with_room_for_all_only_what_looks_alike_is_left_out(steps: list[int]) -> None:
    levels = [step * 10 for step in steps]
    stamps = [one.stamp for one in select(levels, 256)]
    changed = [n for n in range(len(levels)) if n == 0 or levels[n] != levels[n - 1]]
    assert stamps == sorted({*changed, len(levels) - 1})


def test_the_greatest_change_among_many_is_kept() -> None:
    levels = [100 + 10 * (number % 2) for number in range(2000)]
    levels[777] = 250
    kept = select(levels, 32)
    assert 777 in [one.stamp for one in kept]
    gaps = np.diff([one.time_s for one in kept])
    assert gaps.max() <= 2000 / 4
