"""The default sampling: what is shown for a moment is found, or the record says that it was not looked at."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from clipmod_cli.decode.limits import Coverage
from clipmod_cli.decode.video import watch as watching
from clipmod_cli.types import Frame
from tests.decode.pictures import media
from tests.video.films import (
    is_red,
    moving,
    picture,
    red_times,
    scene,
    seen,
    times,
    write_film,
)

B_FRAMES = {"bf": "3", "b_strategy": "0"}


@pytest.mark.parametrize("red", [range(1, 3), range(77, 79), range(119, 120)], ids=["start", "midst", "end"])
@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "avi", "webm"])
def test_two_frames_far_from_any_key_frame_are_found(tmp_path: Path, extension: str, red: range) -> None:
    options = B_FRAMES if extension in {"mp4", "mkv", "ts"} else {}
    film = write_film(tmp_path / f"film.{extension}", moving(scene(120, red)), options=options)
    frames = seen(film, "auto")
    assert red_times(frames)[0] == pytest.approx(red.start / 10, abs=0.02)
    assert media(frames[0]).unseen == ()
    assert (media(frames[0]).largest_gap_s or 0) <= 1.0
    assert media(frames[0]).frames_total == 120
    assert media(frames[0]).frames_sampling == "auto"


def test_a_still_film_is_looked_at_each_second_and_scored_twice(tmp_path: Path) -> None:
    frames = seen(write_film(tmp_path / "film.mp4", scene(300)), "auto")
    assert times(frames) == [0, 29.9]
    assert media(frames[0]).largest_gap_s == 1.0


def test_a_slow_change_is_looked_at_each_second(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (96, 64), (level // 2, 0, 120)) for level in range(200)]
    frames = seen(write_film(tmp_path / "film.mp4", pictures), "auto")
    assert max(b - a for a, b in pairwise(times(frames))) <= 2.001, "a look each second; some are alike"
    assert (media(frames[0]).largest_gap_s or 0) <= 1.001
    assert len(frames) <= 40


def test_long_pictures_with_nothing_between_them_leave_no_gap(tmp_path: Path) -> None:
    shown = [0.0, 60.0, 60.1, 200.0]
    for extension in ("mp4", "mkv"):
        for frames in ("auto", "key"):
            film = write_film(tmp_path / f"film.{extension}", scene(4, [1]), times=shown, gop=1)
            found = seen(film, frames)
            assert red_times(found) == [60.0]
            assert (media(found[0]).largest_gap_s, media(found[0]).unseen) == (0.0, ())


def test_a_gap_that_would_be_too_long_gets_the_frame_before_it(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scene(3, [1]), times=[0.0, 0.9, 1.9])
    assert times(seen(film, "auto", max_gap_s=1.5)) == [0.0, 0.9, 1.9]


def test_few_frames_say_that_too_few_were_looked_at(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", moving(scene(300)), gop=10)
    sparse = media(seen(film, "fps=0.05")[0])
    assert sparse.unseen == ("unsampled",)
    assert (sparse.largest_gap_s or 0) > 10
    assert media(seen(film, "key")[0]).unseen == ()


def test_when_time_is_short_only_key_frames_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_HURRY_SHARE", 0.0)
    film = write_film(tmp_path / "film.mp4", moving(scene(300, [299])), gop=50)
    frames = seen(film, "auto")
    assert media(frames[0]).frames_sampling == "auto, key"
    assert len(frames) < 20
    assert is_red(frames[-1])
    assert media(frames[0]).unseen == ()
    far = write_film(tmp_path / "far.mp4", moving(scene(300)))
    assert (media(seen(far, "auto")[0]).largest_gap_s or 0) <= 10


def _remux(source: Path, target: Path, start: int, shift: int, **options: str) -> Path:
    """Copy the packets from the number `start` on, `shift` units later."""
    with av.open(str(source)) as film, av.open(str(target), "w", options=options) as copy:
        stream = film.streams.video[0]
        template: Any = copy.add_stream_from_template(stream)
        for packet in [one for one in film.demux(stream) if one.size][start:]:
            assert packet.pts is not None
            assert packet.dts is not None
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = template
            copy.mux(packet)
    return target


@pytest.mark.parametrize("frames", ["auto", "key"])
@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_frames_shown_before_the_first_key_frame_are_looked_at(
    tmp_path: Path, extension: str, frames: str
) -> None:
    """The film begins with a key frame whose leading pictures (RADL) follow it in the file."""
    leading = "keyint=12:min-keyint=12:radl=3:open-gop=0:bframes=4:b-adapt=0:scenecut=0:log-level=none"
    x265 = {"x265-params": leading}
    whole = write_film(
        tmp_path / "whole.mp4", moving(scene(36, range(9, 12))), codec="libx265", options=x265, gop=12, rate=1
    )
    with av.open(str(whole)) as film:
        packets = [packet for packet in film.demux(film.streams.video[0]) if packet.size]
    start = [number for number, packet in enumerate(packets) if packet.is_keyframe][1]
    rest = packets[start:]
    assert min(packet.pts or 0 for packet in rest) < (rest[0].pts or 0), "there are leading pictures"
    shift = -min(min(packet.pts or 0, packet.dts or 0) for packet in rest)
    plain = {"use_editlist": "0", "movflags": "negative_cts_offsets"} if extension == "mp4" else {}
    found = seen(_remux(whole, tmp_path / f"film.{extension}", start, shift, **plain), frames)
    assert is_red(found[0])
    assert found[0].time_s == 0


def test_times_are_those_after_an_edit_list_and_what_it_skips_is_looked_at(tmp_path: Path) -> None:
    whole = write_film(
        tmp_path / "whole.mkv", scene(60, [*range(10, 12), *range(30, 40)]), options={"bf": "0"}
    )
    film = _remux(whole, tmp_path / "film.mp4", 0, -2000, avoid_negative_ts="disabled")
    assert b"elst" in film.read_bytes()
    found = red_times(seen(film, "auto"))
    assert found[0] == 0.0
    assert found[1] == pytest.approx(1.0, abs=0.01)
    assert media(seen(film, "auto")[0]).duration_s == pytest.approx(4.0, abs=0.01)
    assert not media(seen(film, "auto")[0]).truncated


def _squeezed(extension: str, codec: str, folder: Path, width: int, wide: Fraction) -> Path:
    """Write a film of `width` x 160 pixels, each `wide` times as wide as high, of a red disc."""
    path = folder / f"film.{extension}"
    with av.open(str(path), "w") as film:
        stream: Any = film.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, 160, "yuv420p"
        stream.codec_context.sample_aspect_ratio = wide
        narrow = picture("red circle", (160, 160)).resize((width, 160))
        for _ in range(5):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(narrow), format="rgb24")))
        film.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("extension", "codec", "width", "wide"),
    [
        ("mp4", "libx264", 32, Fraction(5)),
        ("mkv", "libx264", 32, Fraction(5)),
        ("ts", "libx264", 32, Fraction(5)),
        ("avi", "mpeg4", 32, Fraction(5)),
        ("mpg", "mpeg2video", 64, Fraction(10, 3)),
    ],
)
def test_pixels_that_are_not_square_are_shown_as_players_do(
    tmp_path: Path, extension: str, codec: str, width: int, wide: Fraction
) -> None:
    frames = seen(_squeezed(extension, codec, tmp_path, width, wide), "auto", coverage=Coverage())
    first: Frame = frames[0]
    assert (media(first).width, media(first).height) == pytest.approx((round(width * wide), 160), abs=4)
    assert max(first.view.box.width, first.view.box.height) >= 150
    readings = {frame.view.reading for frame in frames}
    assert readings == {"plain", "pixels 1 to 1"}


def test_side_data_that_is_not_known_makes_no_error(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    stored = io.BytesIO()
    picture("red circle").save(stored, "JPEG", exif=exif)
    path = tmp_path / "film.avi"
    with av.open(str(path), "w") as film:
        stream: Any = film.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number in range(3):
            packet = av.Packet(stored.getvalue())
            packet.pts = packet.dts = number
            packet.time_base = Fraction(1, 10)
            packet.stream = stream
            packet.is_keyframe = True
            film.mux(packet)
    assert is_red(seen(path, "auto")[0])
