"""Broken videos: what is there is looked at, what is not is told, and nothing of it is ever Safe."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from clipmod_cli.decode.formats import sniff
from clipmod_cli.types import Failure, Frame
from tests.decode.pictures import media
from tests.video.films import KINDS, is_red, lost, scene, watch, write_film

DECLARING = ("mp4", "mov", "mkv", "webm", "avi", "wmv", "flv", "ogv")
"""Containers that tell how long they are, so that a cut is known to be one."""


def test_a_file_with_sound_alone_has_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), layout="mono")
        frame.sample_rate = 8000
        film.mux([*stream.encode(frame), *stream.encode()])
    failure = lost(path)
    assert failure.code == "video_error"
    assert "no video stream" in failure.message


def test_a_film_without_its_index_is_an_error(tmp_path: Path) -> None:
    data = write_film(tmp_path / "film.mp4", scene(10)).read_bytes()
    failure = lost(data[: data.index(b"moov") - 4])
    assert failure.code == "video_error"
    assert media(failure).kind == "video"
    assert not failure.retryable


def test_a_film_of_no_frames_is_an_error(tmp_path: Path) -> None:
    data = write_film(tmp_path / "film.mkv", scene(10)).read_bytes()
    assert lost(data[: data.index(b"\x1f\x43\xb6\x75")]).code == "video_error"  # before the first cluster


def test_an_unknown_codec_is_an_error(tmp_path: Path) -> None:
    data = write_film(tmp_path / "film.mp4", scene(10)).read_bytes()
    assert lost(data.replace(b"avc1", b"xyz1")).code == "video_error"


def test_an_encrypted_film_says_so(tmp_path: Path) -> None:
    secret = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "01" * 16}
    failure = lost(write_film(tmp_path / "film.mp4", scene(10), container=secret))
    assert failure.code == "encrypted"
    assert "encrypted" in failure.message


@pytest.mark.parametrize("extension", DECLARING)
@pytest.mark.parametrize("frames", ["key", "dense", "fps=5", "max=3"])
def test_a_cut_film_is_never_taken_for_a_whole_one(tmp_path: Path, extension: str, frames: str) -> None:
    data = write_film(tmp_path / f"film.{extension}", scene(30), gop=10).read_bytes()
    for percent in (1, 10, 35, 60, 85, 97, 99.9):
        part = data[: int(len(data) * percent / 100)]
        known = sniff(part) is not None  # an Ogg film says what it is on its first pages alone
        assert lost(part, frames).code == ("video_error" if known else "unsupported_format")


@pytest.mark.parametrize("extension", DECLARING)
def test_what_came_before_the_cut_is_looked_at(tmp_path: Path, extension: str) -> None:
    front = {"movflags": "+faststart"} if extension in {"mp4", "mov"} else {}
    film = write_film(
        tmp_path / f"film.{extension}", scene(60, range(10, 20)), keys=(10, 20, 40), container=front
    )
    data = film.read_bytes()
    found = watch(data[: len(data) * 9 // 10])
    assert isinstance(found[-1], Failure)
    assert any(is_red(frame) for frame in found[:-1] if isinstance(frame, Frame))
    assert media(found[-1]).truncated
    assert media(found[-1]).duration_s is not None


@pytest.mark.parametrize("extension", ["ts", "m2ts", "mpg"])
def test_a_cut_stream_without_a_length_is_as_long_as_it_is(tmp_path: Path, extension: str) -> None:
    data = write_film(tmp_path / f"film.{extension}", scene(60), gop=10).read_bytes()
    ends = []
    for percent in (30, 60, 90):
        found = watch(data[: int(len(data) * percent / 100)])
        ends.append(max(one.time_s for one in found if isinstance(one, Frame)))
    assert ends == sorted(ends)
    assert ends[0] < 3


def test_a_damaged_picture_is_told(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scene(60, range(20, 40)), gop=20)
    data = bytearray(film.read_bytes())
    with av.open(str(film)) as opened:
        packets = [packet for packet in opened.demux(video=0) if packet.is_keyframe and packet.size]
    start = packets[1].pos or 0
    data[start + 8 : start + packets[1].size] = bytes(packets[1].size - 8)
    failure = lost(bytes(data))
    assert failure.code == "video_error"
    assert media(failure).truncated


@pytest.mark.parametrize("extension", sorted(KINDS))
def test_any_damage_gives_one_ending(tmp_path: Path, extension: str) -> None:
    film = write_film(tmp_path / f"film.{extension}", scene(20, range(8, 12)), keys=(8, 12))
    whole = film.read_bytes()
    chance = random.Random(extension)
    for _ in range(12):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 4, 30])):
            data[chance.randrange(len(data) if chance.random() < 0.5 else 600)] = chance.randrange(256)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :][: chance.randrange(1, 500)]
        found = watch(bytes(data), chance.choice(["key", "dense", "fps=3"]))
        end = found[-1]
        assert not isinstance(end, Failure) or end.code != "internal_error", end.message


@pytest.mark.parametrize(("factor", "truncated"), [(1.0, False), (1.02, False), (3.0, True)])
def test_a_film_that_promises_more_than_comes_needs_review(
    tmp_path: Path, factor: float, *, truncated: bool
) -> None:
    data = write_film(tmp_path / "film.webm", scene(60)).read_bytes()
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a float of 8 bytes
    (promised,) = struct.unpack(">d", data[at : at + 8])
    found = watch(data[:at] + struct.pack(">d", promised * factor) + data[at + 8 :])
    assert isinstance(found[-1], Frame)
    assert media(found[-1]).truncated is truncated
