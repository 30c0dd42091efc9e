"""Motion JPEG with two pictures in a packet: two fields of one frame are decoded, a second picture is not."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import pytest
from PIL import Image

from tests.decode.pictures import media
from tests.video.films import seen

SIZE = (96, 96)


def jpeg(colour: str, size: tuple[int, int] = SIZE) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


def write(path: Path, packet: bytes, last: bytes) -> Path:
    """Write a film of nine such packets and a last one."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mjpeg", rate=10)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p"
        for number in range(10):
            one = av.Packet(last if number == 9 else packet)
            one.pts = one.dts = number
            one.time_base, one.stream, one.is_keyframe = Fraction(1, 10), stream, True
            film.mux(one)
    return path


@pytest.mark.parametrize("ending", ["avi", "mkv", "mov"])
@pytest.mark.parametrize("frames", ["key", "auto"])
@pytest.mark.parametrize(
    ("packet", "unseen"),
    [
        (jpeg("blue"), ()),
        (jpeg("blue") + jpeg("red"), ("other_content",)),
        (jpeg("blue") + bytes(100) + jpeg("red"), ("other_content",)),
        (jpeg("blue", (96, 48)) + jpeg("red", (96, 48)), ()),
        (jpeg("blue", (96, 48)) * 2 + jpeg("red", (96, 48)), ("other_content",)),
    ],
    ids=["one", "two", "two with zeros between", "fields", "fields and one more"],
)
def test_a_second_picture_is_not_passed_over_in_silence(
    tmp_path: Path, ending: str, frames: str, packet: bytes, unseen: tuple[str, ...]
) -> None:
    for number, first in enumerate((packet, jpeg("blue")) if unseen else (packet,)):
        found = seen(write(tmp_path / f"{number}.{ending}", first, packet), frames)
        assert media(found[-1]).unseen == unseen
