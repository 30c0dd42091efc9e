"""When things are shown: in each container, with any frame rate, whatever headers claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.decode.pictures import media
from tests.video.films import FORMATS, KINDS, RATE, SIZE, is_red, red_times, scene, seen, times, write_film


@pytest.fixture(params=sorted(KINDS))
def extension(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_scene_is_found_at_its_time_in_every_container(tmp_path: Path, extension: str) -> None:
    film = write_film(tmp_path / f"film.{extension}", scene(40, range(20, 30)), keys=(20, 30))
    frames = seen(film)
    assert red_times(frames)[0] == pytest.approx(2.0, abs=1 / RATE)
    assert times(frames)[0] == 0
    assert times(frames)[-1] == pytest.approx(3.9, abs=0.01)
    assert media(frames[0]).duration_s == pytest.approx(4.0, abs=1 / RATE)
    assert (media(frames[0]).kind, media(frames[0]).format) == ("video", FORMATS[extension])
    assert (media(frames[0]).width, media(frames[0]).height) == SIZE
    assert not media(frames[0]).truncated


def test_every_container_is_seen_whole_by_dense(tmp_path: Path, extension: str) -> None:
    film = write_film(tmp_path / f"film.{extension}", scene(30, range(14, 16)))
    found = red_times(seen(film, "dense"))
    assert found[0] == pytest.approx(1.4, abs=0.01)
    assert found[-1] <= 1.51


def test_numbers_are_those_of_the_frames(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scene(40, range(20, 30)), keys=(20, 30))
    assert [(frame.number, frame.time_s) for frame in seen(film)] == [(0, 0), (20, 2), (30, 3), (39, 3.9)]


def test_sound_does_not_shift_times(tmp_path: Path) -> None:
    for extension in ("mov", "mkv", "avi"):
        film = write_film(tmp_path / f"film.{extension}", scene(30, range(20, 30)), keys=(20,), sound=True)
        assert times(seen(film)) == pytest.approx([0, 2.0, 2.9])


def test_times_of_a_variable_frame_rate_are_those_of_its_timestamps(tmp_path: Path) -> None:
    shown = [0.0, 0.1, 5.0, 5.04, 5.08, 9.0]
    for extension in ("mp4", "mkv"):
        film = write_film(tmp_path / f"film.{extension}", scene(6, [2]), times=shown, keys=(2, 3))
        frames = seen(film)
        assert red_times(frames) == [5.0]
        assert times(frames) == [0.0, 5.0, 5.04, 9.0]


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_video_is_turned_as_it_is_displayed(tmp_path: Path, degrees: int) -> None:
    corner = scene(1)[0].copy()
    corner.paste((255, 255, 0), (0, 0, 32, 32))
    film = write_film(tmp_path / "film.mp4", [corner] * 3, rotation=degrees)
    frame = seen(film)[0]
    pixels = frame.inputs[next(iter(frame.inputs))]
    size = SIZE if degrees in {0, 180} else SIZE[::-1]
    assert (pixels.shape[1], pixels.shape[0]) == size == (media(frame).width, media(frame).height)
    yellow = {0: (8, 8), 90: (-8, 8), 180: (-8, -8), -90: (8, -8)}[degrees]
    red, _, blue = pixels[yellow].tolist()
    assert red > 200
    assert blue < 80


def test_a_header_that_lies_about_its_length_is_not_believed(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scene(30))
    data = bytearray(film.read_bytes())
    for box, at in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        start = data.index(box) + at
        data[start : start + 4] = (3_600_000).to_bytes(4, "big")
    frames = seen(bytes(data))
    assert media(frames[0]).duration_s == pytest.approx(3.0)
    assert times(frames) == [0, 2.9]


def test_one_frame_is_a_video_of_one_frame(tmp_path: Path, extension: str) -> None:
    (frame,) = seen(write_film(tmp_path / f"film.{extension}", scene(1, [0])))
    assert is_red(frame)
    assert (frame.number, frame.time_s, frame.last) == (0, 0.0, True)


def test_a_stream_that_starts_late_is_told_from_its_start(tmp_path: Path) -> None:
    shown = [3600 + number / RATE for number in range(20)]
    film = write_film(tmp_path / "film.ts", scene(20, range(10, 20)), times=shown, keys=(10,))
    assert red_times(seen(film)) == pytest.approx([1.0, 1.9])


def test_two_recordings_put_together_go_on_where_the_first_ended(tmp_path: Path) -> None:
    first = write_film(tmp_path / "first.mpg", scene(20)).read_bytes()
    second = write_film(tmp_path / "second.mpg", scene(20, range(10, 20)), keys=(10,)).read_bytes()
    frames = seen(first + second, "dense")
    assert red_times(frames)[0] == pytest.approx(3.0, abs=0.1)
    assert times(frames)[-1] == pytest.approx(3.9, abs=0.1)
