"""Frames that cannot be had: those before them are shown, and then it is an error."""

from __future__ import annotations

import struct
import zlib
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from clipmod_cli.decode.limits import DecodeLimits, FrameSampling
from clipmod_cli.decode.moving.timeline import frame_durations
from clipmod_cli.decode.stills.losses import png_frames
from clipmod_cli.types import Failure, Frame
from tests.decode.pictures import (
    WHOLE,
    encode,
    failure,
    frames,
    media,
    png_chunk,
    results,
)
from tests.decode.samples import photo
from tests.decode.test_animation import COLOURS, SETTINGS, colour, moving, shades


def test_a_frame_that_breaks_ends_in_a_failure_after_those_before_it() -> None:
    data = bytearray(moving("PNG", COLOURS, 100))
    third = [at for at in range(len(data)) if data.startswith(b"fdAT", at)][1]
    data[third + 10 : third + 14] = b"\xff" * 4
    *before, end = results(bytes(data))
    assert [colour(shot) for shot in before if isinstance(shot, Frame)] == COLOURS[:2]
    assert isinstance(end, Failure)
    assert (end.code, media(end).truncated, media(end).kind) == ("decode_error", True, "animation")
    assert "frame 2" in end.message


@pytest.mark.parametrize("mode", ["auto", "key"])
@pytest.mark.parametrize("number", [None, 0, 1, 3])
def test_a_frame_of_a_png_with_fewer_rows_than_it_declares_is_truncated(
    mode: Literal["auto", "key"], number: int | None
) -> None:
    """Its data end neatly, and decoders show what was there before in the place of the others."""
    shots = [photo((32, 32)).rotate(90 * turn) for turn in range(4)]
    data = encode(shots[0], "PNG", save_all=True, append_images=shots[1:], duration=100)
    if number is not None:
        start, end = png_frames(data)[number].spans[0]
        before = start - 8 - (4 if number else 0)
        kept = zlib.decompress(data[start:end])[: 16 * (1 + 3 * 32)]
        body = data[before + 8 : start] + zlib.compress(kept)
        data = data[:before] + png_chunk(data[before + 4 : before + 8], body) + data[end + 4 :]
    found = frames(data, frames=FrameSampling(mode=mode))
    assert len(found) == 4
    assert media(found[0]).truncated is (number is not None)


def test_a_gif_that_only_lacks_its_end_is_truncated() -> None:
    data = moving("GIF", COLOURS, 100)
    shots = frames(data[:-1])
    assert [colour(shot) for shot in shots] == COLOURS
    assert all(media(shot).truncated for shot in shots)


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP"])
def test_frames_before_the_tear_are_judged_and_then_it_is_an_error(name: str) -> None:
    data = moving(name, COLOURS, 100)
    *before, end = results(data[: len(data) - 24])
    assert [colour(shot) for shot in before if isinstance(shot, Frame)] == COLOURS[:3]
    assert isinstance(end, Failure)
    assert end.code == "decode_error"
    assert media(end).truncated


def test_a_first_frame_that_is_torn_is_shown_and_then_it_is_an_error() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)
    shots = [Image.fromarray(noise), Image.new("RGB", (40, 60))]
    data = encode(shots[0], "PNG", save_all=True, append_images=shots[1:], duration=100)
    shot, end = results(data[: len(data) // 2])
    assert isinstance(shot, Frame)
    assert np.array_equal(shot.inputs[WHOLE][:20], noise[:20])
    assert isinstance(end, Failure)
    assert media(end).truncated


def test_frames_that_are_promised_and_missing_are_an_error() -> None:
    data = bytearray(moving("PNG", COLOURS, 100))
    at = data.index(b"acTL")
    promised = b"acTL" + struct.pack(">II", 9, 0)
    data[at : at + 16] = promised + zlib.crc32(promised).to_bytes(4, "big")
    *before, end = results(bytes(data))
    assert len(before) == 4
    assert isinstance(end, Failure)
    assert "9 frames" in end.message


def test_more_frames_than_are_walked_are_an_error() -> None:
    for name in SETTINGS:
        *before, end = results(moving(name, shades(12), 100), limits=DecodeLimits(max_walked_frames=10))
        assert isinstance(before[-1], Frame)
        assert before[-1].number == 9
        assert isinstance(end, Failure)
        assert "first 10 frames" in end.message


def test_an_animation_that_takes_too_long_is_stopped() -> None:
    end = failure(moving("GIF", COLOURS, 100), limits=DecodeLimits(max_seconds=0.0))
    assert (end.code, end.retryable) == ("decode_timeout", True)


def test_the_times_of_an_avif_that_cannot_be_read_are_none() -> None:
    data = moving("AVIF", COLOURS, [100, 300, 200, 400])
    assert frame_durations(data, 10) == [0.1, 0.3, 0.2, 0.4]
    assert frame_durations(data, 2) == [0.1, 0.3]
    for box in (b"moov", b"trak", b"mdhd", b"stts"):
        assert frame_durations(data.replace(box, b"free"), 10) == []
    assert frame_durations(data[: data.index(b"stts")], 10) == []
