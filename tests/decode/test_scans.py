"""The scans of a JPEG are counted where there can be more than one, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clipmod_cli.decode.stills.pictures import MAX_JPEG_SCANS
from tests.decode.pictures import WHOLE, encode, failure, frame, frames
from tests.decode.samples import photo

SCAN, END = b"\xff\xda", b"\xff\xd9"


def segments(data: bytes) -> dict[bytes, bytes]:
    """Return a baseline JPEG's segments by marker, markers and lengths included; the scan has its data."""
    found: dict[bytes, bytes] = {}
    at = 2
    while (marker := data[at : at + 2]) != SCAN:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        found[marker] = found.get(marker, b"") + data[at : at + length]
        at += length
    return {**found, SCAN: data[at:-2]}


def one_scan_each(picture: Image.Image, *, repeated: int = 1) -> bytes:
    """Return a baseline JPEG in 4:4:4 whose three components have a scan each, the last `repeated` times.

    Pillow writes them together, so this one is made of three grey ones, which have the same tables.
    """
    parts = [segments(encode(band, "JPEG", quality=90)) for band in picture.convert("YCbCr").split()]
    width, height = (side.to_bytes(2, "big") for side in picture.size)
    frame_header = b"\xff\xc0\0\x11\x08" + height + width + b"\x03\x01\x11\0\x02\x11\0\x03\x11\0"
    scans = [
        SCAN + b"\0\x08\x01" + bytes((number,)) + part[SCAN][6:]
        for number, part in enumerate(parts, 1)
        # marker and length (4), one component and its number (2); then tables, spectrum and data
    ]
    tables = parts[0][b"\xff\xdb"] + frame_header + parts[0][b"\xff\xc4"]
    return b"\xff\xd8" + tables + scans[0] + scans[1] + scans[2] * repeated + END


def test_a_baseline_jpeg_of_several_scans_is_decoded() -> None:
    picture = photo()
    found = frame(one_scan_each(picture)).inputs[WHOLE].astype(int)
    assert np.abs(found - np.asarray(picture)).mean() < 6


@pytest.mark.parametrize("exact", [False, True])
def test_a_baseline_jpeg_of_endless_scans_is_refused(exact: bool) -> None:
    failed = failure(one_scan_each(photo(), repeated=MAX_JPEG_SCANS), exact=exact)
    assert failed.code == "decode_error"
    assert f"{MAX_JPEG_SCANS + 2} scans" in failed.message


def test_what_looks_like_scans_in_a_jpeg_of_one_is_none() -> None:
    # Behind the scan that holds all of the picture the decoder takes no other.
    for mode in ("RGB", "L"):
        data = encode(photo().convert(mode), "JPEG", quality=90)
        comment = b"\xff\xfe\xff\xff" + (SCAN * 40_000)[:0xFFFD]
        assert np.array_equal(frame(data[:2] + comment + data[2:]).inputs[WHOLE], frame(data).inputs[WHOLE])
        assert frames(data + SCAN * MAX_JPEG_SCANS * 2)
