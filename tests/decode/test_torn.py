"""Files that end early: what is there is shown and flagged, and nothing torn passes for whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipmod_cli.types import Failure, Frame
from tests.decode.pictures import (
    WHOLE,
    encode,
    failure,
    frame,
    frames,
    media,
    pixels,
    png_chunk,
    quarters,
    results,
)
from tests.decode.samples import MOVING, RESCUED, STILLS, photo

CUTS = [*range(0, 100, 7), 96, 97, 98, 99]


@pytest.mark.parametrize("label", STILLS)
def test_a_torn_still_is_truncated_or_an_error_but_never_whole(label: str) -> None:
    data = STILLS[label]
    original = pixels(data).astype(int)
    for percent in CUTS:
        end = results(data[: len(data) * percent // 100])[-1]
        if isinstance(end, Failure):
            assert end.code in {"decode_error", "empty_file", "unsupported_format"}
        elif isinstance(end, Frame) and not media(end).truncated:
            assert np.array_equal(end.inputs[WHOLE], original), f"rows are missing at {percent} %"


@pytest.mark.parametrize("label", sorted(RESCUED))
def test_what_a_torn_still_has_is_shown(label: str) -> None:
    data = STILLS[label]
    original = pixels(data).astype(int)
    result = frame(data[: len(data) * 70 // 100])
    assert media(result).truncated
    assert (media(result).width, media(result).height) == (96, 64)
    first, last = (0, 24) if label != "BMP" else (40, 64)  # a bitmap begins at the bottom
    difference = np.abs(result.inputs[WHOLE].astype(int) - original)[first:last].mean()
    assert difference < (40 if label == "JPEG-progressive" else 3)


def test_a_torn_picture_is_turned_like_a_whole_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("JPEG", "PNG", "TIFF"):
        data = encode(photo(), name, exif=exif)
        result = frame(data[: len(data) * 80 // 100])
        assert media(result).truncated
        assert result.inputs[WHOLE].shape == (96, 64, 3)
        assert (media(result).width, media(result).height) == (64, 96)
        assert np.abs(result.inputs[WHOLE].astype(int) - pixels(data)).mean() < 30


HEADERS = {"JPEG": (b"\xff\xda", 14), "PNG": (b"IDAT", 6), "GIF": (b",\0\0\0\0", 14), "BMP": (b"BM", 54)}
"""What the data begin behind, and how far behind its first byte."""


@pytest.mark.parametrize("label", HEADERS)
def test_filler_alone_is_no_picture(label: str) -> None:
    mark, length = HEADERS[label]
    end = failure(STILLS[label][: STILLS[label].index(mark) + length])
    assert end.code == "decode_error"
    assert not media(end).truncated


def test_a_jpeg_without_its_end_is_truncated() -> None:
    data = STILLS["JPEG"]
    result = frame(data[:-2])
    assert media(result).truncated
    assert np.array_equal(result.inputs[WHOLE], pixels(data))


@pytest.mark.parametrize("label", STILLS)
def test_garbage_behind_a_picture_is_fine(label: str) -> None:
    result = frame(STILLS[label] + bytes(1000) + b"garbage")
    assert not media(result).truncated
    assert np.array_equal(result.inputs[WHOLE], pixels(STILLS[label]))


def test_a_png_with_a_wrong_checksum_is_shown_for_review() -> None:
    comment = png_chunk(b"tEXt", b"Comment\0hello")
    data = STILLS["PNG"][:33] + comment[:-1] + b"x" + STILLS["PNG"][33:]
    result = frame(data)
    assert media(result).truncated
    assert np.array_equal(result.inputs[WHOLE], pixels(STILLS["PNG"]))


def test_tolerance_for_one_picture_is_not_tolerance_for_all() -> None:
    from PIL import ImageFile

    torn = STILLS["PNG"][: len(STILLS["PNG"]) // 2]
    for _ in range(3):
        assert media(frame(torn)).truncated
        assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("label", MOVING)
def test_a_torn_animation_is_never_a_shorter_one(label: str) -> None:
    data = MOVING[label]
    whole = {shot.number: shot.inputs[WHOLE] for shot in frames(data)}
    assert len(whole) == 4
    for percent in CUTS:
        found = results(data[: len(data) * percent // 100])
        shots = [result for result in found if isinstance(result, Frame)]
        if not isinstance(found[-1], Failure):
            assert media(found[-1]).truncated or len(shots) == 4, f"cut at {percent} % it passes for whole"
        for shot in shots[1:]:
            assert np.array_equal(shot.inputs[WHOLE], whole[shot.number])


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_wherever_an_animation_is_cut_it_is_not_taken_for_whole(name: str) -> None:
    shots = [quarters(), quarters([(59, 44, 33)] * 4)]  # 59 and 44 are a GIF's marks for its end and an image
    smaller: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "TIFF": {"compression": "packbits"}}
    settings = smaller.get(name, {})
    data = encode(shots[0], name, save_all=True, append_images=shots[1:], duration=100, **settings)
    for length in range(len(data)):
        found = results(data[:length])
        complete = len(found) == 2 and not isinstance(found[-1], Failure)
        assert isinstance(found[-1], Failure) or media(found[-1]).truncated or complete, length
