"""Subtitles that are pictures are not looked at, and the record says so; words are no pictures."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.decode.pictures import media
from tests.video.films import scene, seen, write_film

STYLES = """[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: D,Arial,20
[Events]
Format: Layer, Start, End, Style, Text
"""
WORDS = b"1\n00:00:01,000 --> 00:00:03,000\nHello\n"


def disc() -> bytes:
    """Return a subtitle stream of a Blu-ray disc (PGS) with a disc of one colour."""
    places = np.indices((64, 96)) - np.array([32, 48])[:, None, None]
    shape = (np.hypot(*places) < 24).astype(np.uint8)
    runs = b"".join(b"".join(b"\1" if one else b"\0\1" for one in row) + b"\0\0" for row in shape)
    height, width = shape.shape
    bodies = {
        0x16: struct.pack(">HHBHBBBB4xHH", width, height, 0x10, 0, 0x80, 0, 0, 1, 0, 0),
        0x17: struct.pack(">BBHHHH", 1, 0, 0, 0, width, height),
        0x14: bytes((0, 0, 1, 81, 90, 240, 255)),
        0x15: struct.pack(">HBB", 0, 0, 0xC0)
        + struct.pack(">I", len(runs) + 4)[1:]
        + struct.pack(">HH", width, height)
        + runs,
        0x80: b"",
    }
    return b"".join(
        b"PG" + struct.pack(">IIBH", 90_000, 0, kind, len(body)) + body for kind, body in bodies.items()
    )


def script(text: str) -> bytes:
    return f"{STYLES}Dialogue: 0,0:00:01.00,0:00:03.00,D,{text}\n".encode()


UNSEEN = ("other_content",)


@pytest.mark.parametrize(
    ("subtitles", "unseen"),
    [
        (disc(), UNSEEN),
        (WORDS, ()),
        (script(r"{\p1}m 0 0 l 90 0 90 90{\p0}"), UNSEEN),
        (script(r"{\an7\p (+04)}m 0 0 l 90 0 90 90"), UNSEEN),
        (script(r"{\iclip(1, m 0 0 l 90 0 90 90)}words"), UNSEEN),
        (script(r"{\pos(9,9)\p0\pbo1\clip(0,0,90,90)\i1}words, C:\p"), ()),
    ],
)
def test_drawn_subtitles_are_told(tmp_path: Path, subtitles: bytes, unseen: tuple[str, ...]) -> None:
    film, both = write_film(tmp_path / "film.mkv", scene(60)), tmp_path / "both.mkv"
    form = {b"PG": "sup", b"1\n": "srt"}.get(subtitles[:2], "ass")
    with (
        av.open(str(film)) as pictures,
        av.open(io.BytesIO(subtitles), format=form) as words,
        av.open(str(both), "w") as output,
    ):
        sources: list[Any] = [pictures, words]
        targets = [output.add_stream_from_template(source.streams[0]) for source in sources]
        for source, target in zip(sources, targets, strict=True):
            for packet in source.demux():
                if packet.size:
                    packet.stream = target
                    output.mux(packet)
    assert media(seen(both, "auto")[0]).unseen == unseen
