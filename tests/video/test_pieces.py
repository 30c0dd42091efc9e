"""A hole in the midst of a film is noticed, whatever FFmpeg passes over; a whole film has none."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from clipmod_cli.decode.formats import sniff
from clipmod_cli.decode.video.pieces import walk_pieces
from tests.video.films import KINDS, lost, moving, scene, seen, write_film

WALKED = sorted(set(KINDS) - {"mp4", "mov"})
"""An MP4 says in its index where each frame lies."""


def holed(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    known = sniff(data)
    assert known is not None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return walk_pieces(descriptor, known.name, len(data), lambda: None).has_hole
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("extension", WALKED)
def test_a_whole_film_has_no_hole(tmp_path: Path, extension: str) -> None:
    sound = extension in {"mkv", "avi"}
    film = write_film(tmp_path / f"film.{extension}", moving(scene(40)), gop=10, sound=sound)
    assert not holed(tmp_path / "copy", film.read_bytes())


def test_live_streams_of_unknown_length_have_no_hole(tmp_path: Path) -> None:
    for extension in ("mkv", "webm"):
        film = write_film(tmp_path / f"film.{extension}", moving(scene(40)), gop=10, container={"live": "1"})
        data = film.read_bytes()
        assert not holed(tmp_path / "copy", data)
        assert holed(tmp_path / "copy", data[:-5])
    film = write_film(tmp_path / "film.flv", scene(9), container={"flvflags": "no_duration_filesize"})
    assert not holed(tmp_path / "copy", film.read_bytes())


@pytest.mark.parametrize("extension", WALKED)
def test_bytes_that_are_gone_are_missed(tmp_path: Path, extension: str) -> None:
    data = write_film(tmp_path / f"film.{extension}", moving(scene(60)), gop=20).read_bytes()
    chance = random.Random(extension)
    for _ in range(20):
        at = chance.randrange(len(data) // 4, len(data) - 400)
        assert lost(data[:at] + data[at + chance.choice((1, 3, 60, 187, 300)) :]).code == "video_error"


@pytest.mark.parametrize(("extension", "mark"), [("mkv", b"\xa3"), ("flv", b"\x09"), ("mpg", b"\0\0\1\xe0")])
def test_a_packets_broken_head_is_noticed(tmp_path: Path, extension: str, mark: bytes) -> None:
    data = write_film(tmp_path / f"film.{extension}", moving(scene(60)), gop=20).read_bytes()
    path = tmp_path / "copy"
    found = []
    at = len(data) // 2
    while (at := data.find(mark, at)) >= 0:
        found.append(holed(path, data[:at] + b"\xff" * len(mark) + data[at + len(mark) :]))
        at += 1
    assert any(found)


def test_what_follows_a_segment_or_fills_a_disc_is_no_damage(tmp_path: Path) -> None:
    matroska = write_film(tmp_path / "film.mkv", scene(10)).read_bytes()
    assert seen(matroska + bytes(100))
    program = write_film(tmp_path / "film.mpg", scene(10)).read_bytes()
    assert seen(program + bytes(3000))


def test_a_hostile_file_ends_the_walk_when_its_time_is_up(tmp_path: Path) -> None:
    class OverError(Exception):
        pass

    def over() -> None:
        raise OverError

    path = tmp_path / "film.mkv"
    path.write_bytes(b"\x1a\x45\xdf\xa3\x80" + b"\xec\x80" * 100_000)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OverError):
            walk_pieces(descriptor, "MATROSKA", path.stat().st_size, over)
    finally:
        os.close(descriptor)
