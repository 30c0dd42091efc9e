"""Pixels that are missing although a decoder succeeds; complaints that lose none."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from clipmod_cli.decode.stills.losses import jpeg_loses_pixels, png_loses_rows
from tests.decode.pictures import encode, png_chunk
from tests.decode.samples import photo

PICTURE = photo((200, 150))
PLAIN = encode(PICTURE, "JPEG", quality=90)


def _odd_scan(data: bytes) -> bytes:
    """Return a JPEG whose scan declares another spectrum than a sequential one has."""
    at = data.index(b"\xff\xda")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    return data[: at + length - 1] + b"\0\0\0" + data[at + 2 + length :]


def _junk(data: bytes) -> bytes:
    return data[:20] + b"\0\1\2" + data[20:]


WHOLE: dict[str, bytes] = {
    "plain": PLAIN,
    "progressive": encode(PICTURE, "JPEG", progressive=True),
    "restart markers": encode(PICTURE, "JPEG", restart_marker_rows=1),
    "grey": encode(PICTURE.convert("L"), "JPEG"),
    "CMYK": encode(PICTURE.convert("CMYK"), "JPEG"),
    "odd parameters of a scan": _odd_scan(PLAIN),
    "unknown version of JFIF": PLAIN.replace(b"JFIF\0\1", b"JFIF\0\x09"),
    "junk between segments": _junk(PLAIN),
    "extraneous bytes": PLAIN[:-2] + b"abc\xff\xd9",
    "trailing bytes": PLAIN + b"x" * 100,
}


@pytest.mark.parametrize("label", WHOLE)
def test_a_jpeg_that_is_whole_loses_nothing(label: str) -> None:
    assert not jpeg_loses_pixels(WHOLE[label])


@pytest.mark.parametrize("label", WHOLE)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "neat end"])
def test_a_jpeg_that_ends_early_loses_pixels(label: str, end: bytes) -> None:
    data = WHOLE[label]
    assert jpeg_loses_pixels(data[: len(data) * 2 // 3] + end)


def _png(rows: int, *, interlaced: bool = False, cut: bool = False) -> bytes:
    """Return a PNG of 8 rows whose data hold `rows` of them, or as many of its passes' rows."""
    width, height = 16, 8
    if interlaced:
        sizes = [(2, 1), (2, 1), (4, 1), (4, 2), (8, 2), (8, 4), (16, 4)]
        raw = b"".join(b"\0" + b"\x80" * (3 * across) for across, down in sizes for _ in range(down))
        raw = raw[: len(raw) * rows // height]
    else:
        raw = (b"\0" + b"\x80" * (3 * width)) * rows
    packed = zlib.compress(raw)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"IDAT", packed[:-8] if cut else packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_with_fewer_rows_than_it_declares_loses_rows(interlaced: bool) -> None:
    for rows, loses in ((8, False), (7, True), (4, True)):
        data = _png(rows, interlaced=interlaced)
        picture = Image.open(io.BytesIO(data))
        try:
            picture.load()
        except OSError:  # of some interlaced pictures Pillow does say so
            assert interlaced
            assert loses
        else:
            assert png_loses_rows(data, picture) is loses, rows


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_black_end_is_no_loss(mode: str) -> None:
    pixels = np.array(PICTURE)
    pixels[-5:] = 0
    if mode == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16))
    else:
        picture = Image.fromarray(pixels).convert(mode)
    data = encode(picture, "PNG")
    opened = Image.open(io.BytesIO(data))
    opened.load()
    assert not png_loses_rows(data, opened)
