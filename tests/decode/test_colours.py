"""Every format and mode comes out in the right colours, in the right corners."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from clipmod_cli.types import View
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
    frame,
    media,
    pixels,
    png,
    quarters,
)

GREYS = [(0,) * 3, (80,) * 3, (160,) * 3, (255,) * 3]
TWO_TONE = [BLACK, WHITE, WHITE, BLACK]
WIDTH, HEIGHT = SIZE


def grey() -> Image.Image:
    return quarters([tone[0] for tone in GREYS], "L")


def two_tone() -> Image.Image:
    return quarters([0, 255, 255, 0], "1")


def palette() -> Image.Image:
    return quarters().quantize(4)


def lit() -> Image.Image:
    """The quarters opaque, half there (twice) and gone."""
    return quarters([(*RED, 255), (*GREEN, 128), (*BLUE, 128), (*YELLOW, 0)], "RGBA")


LIT = [RED, (127, 255, 127), (127, 127, 255), WHITE]


def grey_alpha() -> Image.Image:
    return quarters([(0, 255), (0, 128), (100, 255), (0, 0)], "LA")


GREY_ALPHA = [BLACK, (127,) * 3, (100,) * 3, WHITE]

CASES: list[tuple[str, str, Callable[[], Image.Image], dict[str, Any], Sequence[Colour], int]] = [
    ("1", "PNG", two_tone, {}, TWO_TONE, 0),
    ("L", "PNG", grey, {}, GREYS, 0),
    ("LA", "PNG", grey_alpha, {}, GREY_ALPHA, 1),
    ("P", "PNG", palette, {}, list(QUARTERS), 0),
    ("RGB", "PNG", quarters, {}, list(QUARTERS), 0),
    ("RGB-level9", "PNG", quarters, {"optimize": True}, list(QUARTERS), 0),
    ("RGB-key", "PNG", quarters, {"transparency": RED}, [WHITE, GREEN, BLUE, YELLOW], 0),
    ("L-key", "PNG", grey, {"transparency": 80}, [GREYS[0], WHITE, GREYS[2], WHITE], 0),
    ("RGBA", "PNG", lit, {}, LIT, 1),
    ("1", "TIFF", two_tone, {}, TWO_TONE, 0),
    ("1-g4", "TIFF", two_tone, {"compression": "group4"}, TWO_TONE, 0),
    ("L", "TIFF", grey, {}, GREYS, 0),
    ("LA", "TIFF", grey_alpha, {}, GREY_ALPHA, 1),
    ("P", "TIFF", palette, {}, list(QUARTERS), 0),
    ("RGB", "TIFF", quarters, {}, list(QUARTERS), 0),
    ("RGB-lzw", "TIFF", quarters, {"compression": "tiff_lzw"}, list(QUARTERS), 0),
    ("RGB-deflate", "TIFF", quarters, {"compression": "tiff_adobe_deflate"}, list(QUARTERS), 0),
    ("RGB-packbits", "TIFF", quarters, {"compression": "packbits"}, list(QUARTERS), 0),
    ("RGB-jpeg", "TIFF", quarters, {"compression": "jpeg", "quality": 100}, list(QUARTERS), 6),
    ("RGB-big", "TIFF", quarters, {"big_tiff": True}, list(QUARTERS), 0),
    ("RGBA", "TIFF", lit, {}, LIT, 1),
    ("CMYK", "TIFF", lambda: quarters().convert("CMYK"), {}, list(QUARTERS), 0),
    ("YCbCr", "TIFF", lambda: quarters().convert("YCbCr"), {}, list(QUARTERS), 3),
    ("1", "BMP", two_tone, {}, TWO_TONE, 0),
    ("L", "BMP", grey, {}, GREYS, 0),
    ("P", "BMP", palette, {}, list(QUARTERS), 0),
    ("RGB", "BMP", quarters, {}, list(QUARTERS), 0),
    ("L", "GIF", grey, {}, GREYS, 0),
    ("P", "GIF", palette, {}, list(QUARTERS), 0),
    ("interlaced", "GIF", palette, {"interlace": 1}, list(QUARTERS), 0),
    ("lossless", "WEBP", quarters, {"lossless": True}, list(QUARTERS), 0),
    ("lossless-RGBA", "WEBP", lit, {"lossless": True, "exact": True}, LIT, 1),
    ("lossy", "WEBP", quarters, {"quality": 95}, list(QUARTERS), 12),
    ("RGB", "AVIF", quarters, {"quality": 95}, list(QUARTERS), 12),
    ("L", "AVIF", grey, {"quality": 95}, GREYS, 6),
    ("RGBA", "AVIF", lit, {"quality": 95}, LIT, 12),
    ("L", "JPEG", grey, {"quality": 95}, GREYS, 3),
    ("RGB-444", "JPEG", quarters, {"quality": 95, "subsampling": 0}, list(QUARTERS), 6),
    ("RGB-422", "JPEG", quarters, {"quality": 95, "subsampling": 1}, list(QUARTERS), 6),
    ("RGB-420", "JPEG", quarters, {"quality": 95, "subsampling": 2}, list(QUARTERS), 6),
    ("RGB-kept", "JPEG", quarters, {"quality": 95, "keep_rgb": True}, list(QUARTERS), 6),
    ("progressive", "JPEG", quarters, {"quality": 95, "progressive": True}, list(QUARTERS), 6),
    ("CMYK", "JPEG", lambda: quarters().convert("CMYK"), {"quality": 95}, list(QUARTERS), 6),
]


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
@pytest.mark.parametrize(
    ("name", "make", "settings", "expected", "tolerance"),
    [case[1:] for case in CASES],
    ids=[f"{case[1]}-{case[0]}" for case in CASES],
)
def test_a_mode_comes_out_in_its_colours(
    name: str,
    make: Callable[[], Image.Image],
    settings: dict[str, Any],
    expected: Sequence[Colour],
    tolerance: int,
    exact: bool,
) -> None:
    result = frame(encode(make(), name, **settings), exact=exact)
    assert_corners(result.views[next(iter(result.views))], expected, tolerance)
    assert (media(result).format, media(result).kind) == (name, "image")
    assert (media(result).width, media(result).height) == SIZE
    assert not media(result).truncated


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_lossless_format_is_exact_to_the_last_pixel(name: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    settings = {"lossless": True} if name == "WEBP" else {}
    assert np.array_equal(pixels(encode(Image.fromarray(noise), name, **settings)), noise)


def test_transparency_of_a_palette_becomes_white() -> None:
    picture = palette()
    clear = picture.getpixel((0, 0))
    assert_corners(pixels(encode(picture, "PNG", transparency=clear)), [WHITE, GREEN, BLUE, YELLOW])
    assert_corners(pixels(encode(picture, "GIF", transparency=clear)), [WHITE, GREEN, BLUE, YELLOW])
    half = bytes(128 if entry == clear else 255 for entry in range(4))
    assert_corners(
        pixels(encode(picture, "PNG", transparency=half)), [(255, 127, 127), GREEN, BLUE, YELLOW], 1
    )


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
    views = [
        View(fit="whole", size=(0, 0)),
        View(fit="squash", size=(24, 36)),
        View(fit="longest", size=(30, 30), resample="bilinear"),
        View(fit="shortest", size=(24, 24), crop=(24, 30)),
        View(fit="corner", size=(32, 32), resample="bilinear"),
    ]
    result = frame(encode(stored, name, exif=exif, **TURNED_SETTINGS[name]), views, exact=exact)
    assert (media(result).width, media(result).height) == (90, 60)
    shapes = [(60, 90, 3), (24, 36, 3), (20, 30, 3), (24, 30, 3), (32, 32, 3)]
    for view, shape in zip(views, shapes, strict=True):
        array = result.views[view]
        assert array.shape == shape
        filled = array[:21] if view.fit == "corner" else array
        assert_corners(filled, list(QUARTERS), 12)


def test_odd_or_broken_exif_leaves_the_picture_as_it_lies() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert_corners(pixels(encode(quarters(), "PNG", exif=exif)), list(QUARTERS))
    broken = encode(quarters(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(range(60)))
    assert_corners(pixels(broken), list(QUARTERS), 8)


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
