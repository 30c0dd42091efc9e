"""A stream that begins behind the pictures of another one is shown by players: the record says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipmod_cli.types import Failure, Frame
from tests.decode.pictures import media
from tests.video.films import KINDS, moving, red_times, scene, seen, watch, write_film

OTHER_PROGRAM = {"mpegts_start_pid": "0x200", "mpegts_pmt_start_pid": "0x1100"}


def blue_and_red(folder: Path, extension: str, **later: object) -> list[bytes]:
    """Return two films; FFmpeg finds the streams of the first one long before its end."""
    blue = write_film(folder / f"blue.{extension}", moving(scene(300)), gop=20)
    red = write_film(folder / f"red.{extension}", moving(scene(60, range(60))), gop=20, **later)  # type: ignore[arg-type]
    return [blue.read_bytes(), red.read_bytes()]


def joined(folder: Path, extension: str) -> bytes:
    """Return a film of blue squares with another stream of red circles behind them."""
    match extension:
        case "ts" | "m2ts":
            return b"".join(blue_and_red(folder, extension, container=OTHER_PROGRAM))
        case "mpg":
            blue, red = blue_and_red(folder, extension)
            return blue + red.replace(b"\0\0\x01\xe0", b"\0\0\x01\xe1")
        case "flv":
            blue, red = blue_and_red(folder, extension, codec="flv1")
            return blue + red[13:]
        case _:
            return b"".join(blue_and_red(folder, extension))


@pytest.mark.parametrize("extension", ["ts", "m2ts", "mpg", "flv", "ogv"])
def test_a_later_stream_is_not_passed_over_in_silence(tmp_path: Path, extension: str) -> None:
    found = watch(joined(tmp_path, extension), "auto")
    shown = [one for one in found if isinstance(one, Frame)]
    assert media(found[-1]).unseen or isinstance(found[-1], Failure) or red_times(shown)
    if extension in {"ts", "flv"}:
        assert not isinstance(found[-1], Failure)
        assert "other_content" in media(found[-1]).unseen


@pytest.mark.parametrize("extension", sorted(KINDS))
def test_an_ordinary_film_has_none(tmp_path: Path, extension: str) -> None:
    sound = extension in {"mkv", "mov", "avi"}
    film = write_film(tmp_path / f"film.{extension}", moving(scene(300)), gop=20, sound=sound)
    assert media(seen(film, "auto")[0]).unseen == ()
