"""EXIF: pictures are turned as it says, and what is broken in it does no harm."""

from __future__ import annotations

import struct
import warnings
from typing import Any

import pytest
from PIL import Image

from clipmod_cli.types import Geometry
from tests.decode.pictures import (
    QUARTERS,
    assert_corners,
    encode,
    frame,
    media,
    pixels,
    quarters,
)

INVERSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a picture is stored that EXIF turns upright."""

TURNED_SETTINGS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 95},
}


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", TURNED_SETTINGS)
def test_exif_orientation_is_applied(name: str, orientation: int, exact: bool) -> None:
    upright = quarters(size=(90, 60))
    stored = upright.transpose(INVERSE[orientation]) if orientation in INVERSE else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    geometries = [
        Geometry(fit="whole", size=(0, 0)),
        Geometry(fit="squash", size=(24, 36)),
        Geometry(fit="longest", size=(30, 30), resample="bilinear"),
        Geometry(fit="shortest", size=(24, 24), crop=(24, 30)),
        Geometry(fit="corner", size=(32, 32), resample="bilinear"),
    ]
    result = frame(encode(stored, name, exif=exif, **TURNED_SETTINGS[name]), geometries, exact=exact)
    assert (media(result).width, media(result).height) == (90, 60)
    shapes = [(60, 90, 3), (24, 36, 3), (20, 30, 3), (24, 30, 3), (32, 32, 3)]
    for geometry, shape in zip(geometries, shapes, strict=True):
        array = result.inputs[geometry]
        assert array.shape == shape
        filled = array[:21] if geometry.fit == "corner" else array
        assert_corners(filled, list(QUARTERS), 12)


def test_odd_or_broken_exif_leaves_the_picture_as_it_lies() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert_corners(pixels(encode(quarters(), "PNG", exif=exif)), list(QUARTERS))
    for broken in (b"II*\0\xff\xff\xff\xff", b"neither II nor MM", b""):
        exif_bytes = b"Exif\0\0" + broken + bytes(range(60))
        assert_corners(pixels(encode(quarters(), "JPEG", quality=95, exif=exif_bytes)), list(QUARTERS), 8)
        assert_corners(pixels(encode(quarters(), "WEBP", lossless=True, exif=exif_bytes)), list(QUARTERS))


def test_a_decoders_warning_is_neither_an_error_nor_shown(capfd: pytest.CaptureFixture[str]) -> None:
    # Pillow warns of EXIF whose entries lie outside it.
    entry = struct.pack("<HHII", 0x010F, 2, 400, 9000)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    data = encode(quarters(), "JPEG", quality=95, exif=exif)
    warnings.simplefilter("error")
    assert_corners(pixels(data), list(QUARTERS), 8)
    with pytest.warns(UserWarning, match="ours"):
        warnings.warn("ours", stacklevel=1)
    assert capfd.readouterr() == ("", "")
