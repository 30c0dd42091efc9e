"""A file is a film by its tracks, whatever it calls itself, in a folder and in an archive."""

from __future__ import annotations

import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.command import SHAPES, TINY, Command
from tests.video.films import write_film

WORDS = ("--policy", str(SHAPES), "--models", f"open_clip:local-dir:{TINY / 'models' / 'tiny-l'}")
MAC_METADATA = b"\0\x05\x16\x07\0\2\0\0" + bytes(16) + b"\0\1\0\0\0\x09" + bytes(12)
LONG_FREE_BOX = (1024).to_bytes(4, "big") + b"free" + bytes(1016)


def red_circle(path: Path) -> bytes:
    with Image.open(TINY / "pictures" / "red-circle.jpg") as opened:
        picture = opened.convert("RGB")
    return write_film(path, [picture] * 10).read_bytes()


def sound(path: Path) -> None:
    """Write a second of silence."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44_100)
        for start in range(0, 44_100, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44_100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_film_that_calls_itself_sound_is_looked_at(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    film = red_circle(tmp_path / "film.mp4")
    branded = film[:8] + b"M4A " + film[12:]
    (folder / "song.m4a").write_bytes(branded)
    with zipfile.ZipFile(folder / "songs.zip", "w") as archive:
        archive.writestr("song.m4a", branded)
    records = clipmod("scan", folder, *WORDS).records
    judged = [(one["member"], one["final_decision"]) for one in records]
    assert judged == [(None, "NSFW"), ("song.m4a", "NSFW")]


def test_sound_is_no_input(clipmod: Command, folder: Path) -> None:
    sound(folder / "song.m4a")
    song = (folder / "song.m4a").read_bytes()
    (folder / "song.m4a").write_bytes(song[:8] + b"M4A " + song[12:])
    with zipfile.ZipFile(folder / "songs.zip", "w") as archive:
        archive.write(folder / "song.m4a", "song.m4a")
    run = clipmod("scan", folder, *WORDS)
    assert (run.code, run.records) == (0, [])


def test_a_film_behind_a_free_box_is_an_input(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "film").write_bytes(LONG_FREE_BOX + red_circle(tmp_path / "film.mp4"))
    (folder / "notes").write_bytes(b"Sugarfree drinks, and skip the rest")
    (record,) = clipmod("scan", folder, *WORDS).records
    assert record["final_decision"] == "NSFW" or record["error"]["code"] == "video_error"


@pytest.mark.parametrize("head", [b"%PDF-1.4\n", MAC_METADATA])
def test_a_picture_behind_what_is_only_counted_has_a_record(
    clipmod: Command, folder: Path, head: bytes
) -> None:
    """FFmpeg searches for the picture and shows it."""
    hidden = head + (TINY / "pictures" / "red-circle.jpg").read_bytes()
    (folder / "a.jpg").write_bytes(hidden)
    (folder / "paper.pdf").write_bytes(b"%PDF-1.4\n")
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        archive.writestr("b.jpg", hidden)
        archive.writestr("paper.pdf", b"%PDF-1.4\n")
    run = clipmod("scan", folder, *WORDS)
    told = [(one["member"], one["final_decision"], one["error"]["code"]) for one in run.records]
    assert told == [(None, None, "unsupported_format"), ("b.jpg", None, "unsupported_format")]
    assert run.code == 6
