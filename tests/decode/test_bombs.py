"""Small files that ask for much: refused by what their header declares, before anything is decoded."""

from __future__ import annotations

import re
import struct

import pytest
from PIL import Image

from clipmod_cli.decode.limits import DecodeLimits
from clipmod_cli.decode.stills.pictures import MAX_JPEG_SCANS
from clipmod_cli.types import Geometry
from tests.decode.pictures import (
    RED,
    WHOLE,
    assert_corners,
    encode,
    failure,
    frame,
    frames,
    media,
    png,
    quarters,
)
from tests.decode.samples import moving, photo


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(encode(quarters(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_claiming(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    chunk = b"VP8L" + (18).to_bytes(4, "little") + b"\x2f" + bits.to_bytes(4, "little") + bytes(13)
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk


def gif_claiming(width: int, height: int) -> bytes:
    data = encode(quarters(), "GIF")
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def gif_growing() -> bytes:
    """A small first frame, and a second one that wants a canvas of 65,535 x 65,535."""
    data = bytearray(moving("GIF", 2))
    at = data.rindex(b"," + struct.pack("<HHHH", 0, 0, 96, 64))
    data[at + 5 : at + 9] = b"\xff" * 4
    return bytes(data)


def tiff_claiming(width: int, height: int) -> bytes:
    entries = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, 10),
    ]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)


def avif_claiming(width: int, height: int) -> bytes:
    claim = b"ispe" + bytes(4) + struct.pack(">II", width, height)
    return re.sub(rb"ispe.{12}", lambda _: claim, encode(quarters(), "AVIF"), flags=re.DOTALL)


BOMBS: dict[str, bytes] = {
    "PNG": png(20_000, 20_000, 8, 0, b""),
    "JPEG": jpeg_claiming(29_000, 29_000),
    "WEBP": webp_claiming(16_384, 16_384),
    "GIF": gif_claiming(29_000, 29_000),
    "GIF-growing": gif_growing(),
    "BMP": b"BM"
    + bytes(12)
    + struct.pack("<IiiHHIIiiII", 40, 29_000, 29_000, 1, 24, 0, 0, 0, 0, 0, 0)
    + bytes(8),
    "TIFF": tiff_claiming(29_000, 29_000),
    "AVIF": avif_claiming(16_000, 16_000),
    "PNG-side": png(30_001, 1, 8, 0, bytes(30_001)),
    "TIFF-side": tiff_claiming(1, 2_000_000_000),
}


@pytest.mark.parametrize("label", BOMBS)
def test_a_header_that_claims_too_much_is_refused_before_decoding(label: str) -> None:
    assert len(BOMBS[label]) < 100_000
    end = failure(BOMBS[label])
    assert end.code == "too_many_pixels"
    assert media(end).format == label.partition("-")[0]
    assert media(end).sha256 is not None


def test_a_jpeg_counts_after_its_scaling() -> None:
    data = encode(Image.new("RGB", (1600, 1200), RED), "JPEG")
    limits = DecodeLimits(max_pixels=400_000)
    small = Geometry(fit="shortest", size=(64, 64), crop=(64, 64))
    result = frame(data, [small], limits=limits)
    assert_corners(result.inputs[small], [RED] * 4, 3)
    assert (media(result).width, media(result).height) == (1600, 1200)
    assert failure(data, [small], limits=limits, exact=True).code == "too_many_pixels"
    assert failure(data, [WHOLE], limits=limits).code == "too_many_pixels"


def test_a_picture_larger_than_pillow_allows_passes_when_the_limits_do() -> None:
    # Pillow by itself stops at 179 megapixels; a phone's 200 must pass.
    data = encode(Image.new("L", (16_000, 12_000), 255), "JPEG", quality=1)
    geometry = Geometry(fit="squash", size=(16, 16))
    assert_corners(frame(data, [geometry]).inputs[geometry], [(255,) * 3] * 4, 3)


def test_a_view_that_would_be_huge_is_refused() -> None:
    strip = encode(Image.new("L", (20_000, 1)), "PNG")
    assert failure(strip, [Geometry(fit="shortest", size=(224, 224))]).code == "too_many_pixels"
    cropped = Geometry(fit="shortest", size=(224, 224), crop=(224, 224))
    for exact in (False, True):
        assert frame(strip, [cropped], exact=exact).inputs[cropped].shape == (224, 224, 3)


def test_a_progressive_jpeg_of_endless_scans_is_refused() -> None:
    data = encode(photo(), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    assert failure(data[:-2] + scan * MAX_JPEG_SCANS + data[-2:]).code == "decode_error"
    assert frames(data + scan * MAX_JPEG_SCANS), "what lies behind the end is none of its scans"
