"""More than 8 bits a channel, and rarer ways to write colours down."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.decode.pictures import (
    BLACK,
    BLUE,
    GREEN,
    QUARTERS,
    RED,
    SIZE,
    WHITE,
    YELLOW,
    Colour,
    assert_corners,
    encode,
    pixels,
    png,
    quarters,
)
from tests.decode.test_colours import GREYS, grey

WIDTH, HEIGHT = SIZE


def words(values: Sequence[Colour]) -> bytes:
    """Return big-endian 16-bit samples of four quarters."""
    rows = []
    for row in range(HEIGHT):
        left, right = values[:2] if row < HEIGHT // 2 else values[2:]
        rows.append(b"".join(struct.pack(f">{len(left)}H", *left) for _ in range(WIDTH // 2)))
        rows.append(b"".join(struct.pack(f">{len(right)}H", *right) for _ in range(WIDTH // 2)))
    return b"".join(rows)


DEEP_GREYS: list[Colour] = [(0,), (80 * 257,), (160 * 257,), (65535,)]


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    deep_colours: list[Colour] = [(65535, 0, 0), (0, 30000, 0), (0, 0, 65535), (20000, 20000, 0)]
    scaled = [RED, (0, 30000 >> 8, 0), BLUE, (20000 >> 8, 20000 >> 8, 0)]
    assert_corners(pixels(png(*SIZE, 16, 0, words(DEEP_GREYS))), GREYS)
    assert_corners(pixels(png(*SIZE, 16, 2, words(deep_colours))), scaled)
    with_alpha: list[Colour] = [(*colour, 65535) for colour in deep_colours[:3]]
    assert_corners(pixels(png(*SIZE, 16, 6, words([*with_alpha, (0, 0, 0, 0)]))), [*scaled[:3], WHITE])
    grey_with_alpha: list[Colour] = [(0, 65535), (65535, 65535), (40000, 65535), (0, 0)]
    expected = [BLACK, WHITE, (40000 >> 8,) * 3, WHITE]
    assert_corners(pixels(png(*SIZE, 16, 4, words(grey_with_alpha))), expected)


def test_a_transparent_grey_of_sixteen_bits_becomes_white() -> None:
    data = png(*SIZE, 16, 0, words(DEEP_GREYS), (b"tRNS", struct.pack(">H", 80 * 257)))
    assert_corners(pixels(data), [GREYS[0], WHITE, GREYS[2], GREYS[3]])


@pytest.mark.parametrize(("mode", "code"), [("I;16", "<u2"), ("I;16B", ">u2")])
def test_a_sixteen_bit_tiff_is_scaled(mode: str, code: str) -> None:
    array = np.array(grey()).astype(code) * 257
    picture = Image.frombytes(mode, SIZE, array.tobytes())
    assert_corners(pixels(encode(picture, "TIFF")), GREYS)
    assert_corners(pixels(encode(picture, "TIFF", compression="tiff_lzw")), GREYS)


def tiff(bits: int, photometric: int, body: bytes, *, sample_format: int = 1) -> bytes:
    """Return an uncompressed little-endian grey TIFF, of modes that Pillow reads but does not write."""
    entries = [(256, WIDTH), (257, HEIGHT), (258, bits), (259, 1), (262, photometric), (273, 0)]
    entries += [(277, 1), (278, HEIGHT), (279, len(body)), (339, sample_format)]
    offset = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(
        struct.pack("<HHII", tag, 4 if tag in {273, 279} else 3, 1, offset if tag == 273 else value)
        for tag, value in entries
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + body


def test_rarer_greys_of_tiff_are_scaled() -> None:
    tones = np.array(grey())
    as_words = tones.astype("<u2") * 257
    assert_corners(pixels(tiff(16, 1, as_words.tobytes())), GREYS)
    assert_corners(pixels(tiff(16, 0, (65535 - as_words).tobytes())), GREYS)
    twelve = tones.astype(np.uint16) * 16 + 15
    first, second = twelve[:, ::2], twelve[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1).astype(np.uint8)
    assert_corners(pixels(tiff(12, 1, packed.tobytes())), GREYS)
    signed = tones.astype("<i2") * 128 - 16384  # no telling what is black: the least value becomes it
    assert_corners(pixels(tiff(16, 1, signed.tobytes(), sample_format=2)), GREYS, 1)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0, 1e6])
def test_floats_are_scaled_by_what_they_seem_to_mean(top: float) -> None:
    values = np.array(grey()).astype(np.float32) / 255 * top
    assert_corners(pixels(encode(Image.fromarray(values), "TIFF")), GREYS, 1)


def test_negative_and_non_finite_floats_become_something_visible() -> None:
    values = np.array(grey()).astype(np.float32) - 100
    assert_corners(pixels(encode(Image.fromarray(values), "TIFF")), GREYS, 1)
    values[:, : WIDTH // 2] = np.nan
    values[:, WIDTH // 2 :] = np.inf
    assert_corners(pixels(encode(Image.fromarray(values), "TIFF")), [BLACK, WHITE, BLACK, WHITE])


def test_whole_numbers_of_32_bits_are_scaled() -> None:
    values = np.array(grey()).astype(np.int32)
    assert_corners(pixels(encode(Image.fromarray(values), "TIFF")), GREYS)
    assert_corners(pixels(encode(Image.fromarray(values * 257), "TIFF")), GREYS, 1)


def test_lab_colours_are_converted() -> None:
    lab = ImageCms.profileToProfile(
        quarters(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    assert_corners(pixels(encode(lab, "TIFF")), list(QUARTERS), 25)


def test_ycck_of_adobe_is_not_a_negative() -> None:
    ink = np.array(quarters().convert("CMYK"))  # channels C, M, Y, K
    luma = np.array(Image.fromarray(np.ascontiguousarray(ink[..., :3])).convert("YCbCr"))
    stored = np.concatenate([luma, 255 - ink[..., 3:]], axis=2)
    data = encode(Image.fromarray(np.ascontiguousarray(255 - stored), "CMYK"), "JPEG", quality=100)
    marker = data.index(b"Adobe\0")
    transform = marker + 11
    assert data[transform] == 0
    assert_corners(pixels(data[:transform] + b"\x02" + data[transform + 1 :]), list(QUARTERS), 8)


def test_bitmaps_from_the_top_down_and_run_length_encoded() -> None:
    upside_down = bytearray(encode(quarters(), "BMP"))
    upside_down[22:26] = (-HEIGHT).to_bytes(4, "little", signed=True)
    assert_corners(pixels(bytes(upside_down)), [BLUE, YELLOW, RED, GREEN])
    runs = b"".join(
        bytes([WIDTH // 2, 2 - 2 * (row >= HEIGHT // 2), WIDTH // 2, 3 - 2 * (row >= HEIGHT // 2), 0, 0])
        for row in range(HEIGHT)
    )
    colours = b"".join(bytes([*colour[::-1], 0]) for colour in QUARTERS)
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(runs) + 2, 0, 0, 4, 4)
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 16) + header + colours + runs + b"\0\1"
    assert_corners(pixels(data), list(QUARTERS))
