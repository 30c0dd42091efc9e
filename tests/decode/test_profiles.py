"""What people see of pictures with colour profiles, in whichever viewer."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipmod_cli.decode.stills.colour_spaces import ColourSpaces, read_colour_spaces
from clipmod_cli.decode.stills.readings import (
    Readings,
    needs_every_pixel,
    read_pixels,
)
from clipmod_cli.types import Geometry
from tests.decode.colour_profiles import (
    ADOBE_RGB,
    D65,
    DISPLAY_P3,
    LEVEL,
    PERMUTED,
    SCRAMBLED,
    SRGB,
    SRGB_CORNERS,
    STEEP,
    SWAPPED,
    cmyk_profile,
    grey_profile,
    two_faced_profile,
)
from tests.decode.pictures import encode, frames, png, png_chunk, quarters
from tests.decode.shown import DISC, GRAIN, SIZE, Pixels, ink, is_disc, of_file, shown


def with_profile(array: Pixels, profile: bytes, name: str = "PNG", mode: str | None = None) -> Readings:
    picture = Image.fromarray(array)
    options = {"lossless": True} if name == "WEBP" else {"quality": 95} if name == "JPEG" else {}
    return of_file(encode(picture.convert(mode or picture.mode), name, icc_profile=profile, **options))


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_profile_that_swaps_channels_has_both_readings(name: str) -> None:
    array = np.full((SIZE, SIZE, 3), (220, 20, 30), np.uint8)
    found = shown(with_profile(array[..., ::-1].copy(), SWAPPED, name))
    assert [*found] == ["profile", "no profile"]
    assert np.abs(found["profile"].astype(int) - (220, 20, 30)).max() <= 12
    assert np.abs(found["no profile"].astype(int) - (30, 20, 220)).max() <= 12


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P"])
def test_a_scrambled_picture_is_seen_unscrambled(mode: str) -> None:
    wanted = np.where(DISC, 230, 40).astype(np.uint8)
    noise = np.random.default_rng(2).integers(-20, 20, wanted.shape)
    stored = np.argsort(PERMUTED)[wanted + noise].astype(np.uint8)
    picture = Image.fromarray(stored).convert(mode)
    found = shown(of_file(encode(picture, "PNG", icc_profile=SCRAMBLED)))
    assert [*found] == ["profile", "no profile"]
    assert np.abs(found["profile"][..., 0].astype(int) - (wanted + noise)).max() <= 1
    assert not is_disc(found["no profile"])
    assert needs_every_pixel(ColourSpaces((SCRAMBLED,)), "RGB")


@pytest.mark.parametrize("profile", [SRGB, DISPLAY_P3, ADOBE_RGB], ids=["sRGB", "P3", "Adobe"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_ordinary_profile_has_one_reading(profile: bytes, mode: str) -> None:
    smooth = np.asarray(Image.fromarray(GRAIN[:6, :6]).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    for picture in (smooth // 2 + 64, np.full((SIZE, SIZE, 3), (220, 20, 30), np.uint8)):
        found = with_profile(picture, profile, mode=mode)
        assert len(found) == 1
        assert not found.unseen
    assert not needs_every_pixel(ColourSpaces((profile,)), mode)


def test_a_wide_gamut_is_converted_and_srgb_is_left_alone() -> None:
    array = np.full((SIZE, SIZE, 3), (200, 100, 50), np.uint8)
    assert np.array_equal(shown(with_profile(array, SRGB))["plain"], array)
    ((name, pixels),) = shown(with_profile(array, DISPLAY_P3)).items()
    assert name == "profile"
    assert np.abs(pixels[0, 0].astype(int) - (215, 93, 31)).max() <= 1


def test_a_colour_chart_of_a_wide_gamut_is_seen_both_ways() -> None:
    """All of the gamut's edge is beyond sRGB: viewers with and without colour management differ much."""
    array = np.zeros((SIZE, SIZE, 3), np.uint8)
    array[..., 0], array[..., 1] = 130, 255
    assert with_profile(array, ADOBE_RGB).names == ("profile", "no profile")


def test_printing_inks_have_one_reading_unless_they_are_swapped() -> None:
    array = np.dstack([GRAIN // 2, GRAIN[..., :1] // 4])
    picture = Image.fromarray(array, "CMYK")
    found = shown(of_file(encode(picture, "TIFF", icc_profile=cmyk_profile())))
    assert [*found] == ["profile"]
    found = shown(of_file(encode(picture, "TIFF", icc_profile=cmyk_profile(swap_inks=True))))
    assert (next(iter(found)), [*found][-1]) == ("profile", "no profile")


def test_a_grey_profile_applies_to_grey() -> None:
    grey = np.repeat(np.arange(0, 240, 5, dtype=np.uint8)[:, None], SIZE, 1)
    (lighter,) = shown(with_profile(grey, grey_profile(LEVEL**1.8))).values()
    assert 5 < (lighter[..., 0].astype(int) - grey).max() < 28
    steep = shown(with_profile(grey, grey_profile(LEVEL**9)))
    assert [*steep] == ["profile", "no profile"]
    assert np.array_equal(steep["no profile"][..., 0], grey)


def test_each_table_of_a_profile_is_seen() -> None:
    found = shown(with_profile(np.full((SIZE, SIZE, 3), (30, 200, 40), np.uint8), two_faced_profile()))
    colours = [pixels[0, 0].tolist() for pixels in found.values()]
    assert [30, 200, 40] in colours
    assert any(red > 200 and green < 40 for red, green, _ in colours)


@pytest.mark.parametrize(
    "profile",
    [b"junk", SRGB[:200], SRGB[:16] + b"CMYK" + SRGB[20:], grey_profile(LEVEL), bytes(5_000_000)],
    ids=["junk", "cut", "for-inks", "for-grey", "huge"],
)
def test_a_profile_that_cannot_be_applied_is_told(profile: bytes) -> None:
    found = with_profile(GRAIN, profile, "TIFF")
    assert found.unseen == {"colour"}
    assert np.array_equal(shown(found)["plain"], GRAIN)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SRGB) - 1), st.binary(min_size=1, max_size=8))
def test_any_profile_has_a_reading(at: int, junk: bytes) -> None:
    profile = SRGB[:at] + junk + SRGB[at + len(junk) :]
    found = read_pixels(GRAIN.copy(), ColourSpaces((profile,)))
    assert found.names
    assert found.names[0] in {"plain", "profile"}


def grey_png(*chunks: tuple[bytes, bytes]) -> Readings:
    return of_file(png(SIZE, SIZE, 8, 2, GRAIN.tobytes(), *chunks))


GAMMA = (b"gAMA", struct.pack(">I", 2000))


SWAPPED_CORNERS = (
    b"cHRM",
    struct.pack(">8I", *(round(100_000 * v) for v in (*D65, 0.15, 0.06, 0.3, 0.6, 0.64, 0.33))),
)


USUAL_CORNERS = (b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in SRGB_CORNERS)))


USUAL_GAMMA = (b"gAMA", struct.pack(">I", 45455))


PERCEPTUAL = (b"sRGB", b"\0")


def profile_chunk(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"x\0\0" + zlib.compress(profile)


def test_chunks_of_a_png_say_what_its_colours_are() -> None:
    steep = shown(grey_png(GAMMA))
    assert [*steep] == ["profile", "no profile"]
    assert steep["profile"].mean() < 30
    swapped = shown(grey_png(SWAPPED_CORNERS))
    assert [*swapped] == ["profile", "no profile"]
    assert np.abs(swapped["profile"].astype(int) - GRAIN[..., ::-1]).max() <= 3
    scrambled = shown(grey_png(profile_chunk(SCRAMBLED), USUAL_GAMMA))
    assert np.array_equal(scrambled["no profile"], GRAIN)
    assert np.abs(scrambled["profile"].astype(int) - PERMUTED[GRAIN]).max() <= 1
    bright = shown(grey_png((b"cICP", bytes((1, 16, 0, 1)))))
    assert [*bright] == ["profile", "no profile"]
    narrow = shown(grey_png((b"cICP", bytes((1, 13, 0, 0)))))
    wanted = np.clip((GRAIN.astype(int) - 16) * 255 / 219, 0, 255)
    assert np.abs(narrow[next(iter(narrow))] - wanted).max() <= 4


def test_srgb_that_viewers_ignore_overrules_no_gamma() -> None:
    """It says what cannot be, or comes behind the palette or the pixels (PNG 3, 5.6 and 11.3.2.5)."""
    pixels = png(SIZE, SIZE, 8, 2, GRAIN.tobytes(), GAMMA)
    late = pixels[:-12] + png_chunk(*PERCEPTUAL) + pixels[-12:]
    behind_palette = png(SIZE, SIZE, 8, 2, GRAIN.tobytes(), GAMMA, (b"PLTE", bytes(6)), PERCEPTUAL)
    for found in (grey_png((b"sRGB", b"\x09"), GAMMA), of_file(late), of_file(behind_palette)):
        assert shown(found)["profile"].mean() < 30


@pytest.mark.parametrize(
    "chunks",
    [
        (),
        (PERCEPTUAL,),
        (PERCEPTUAL, GAMMA),
        (PERCEPTUAL, USUAL_GAMMA, USUAL_CORNERS),
        ((b"cICP", bytes((1, 13, 0, 1))),),
        (profile_chunk(SRGB), GAMMA),
        ((b"gAMA", bytes(4)),),
        ((b"cHRM", bytes(32)),),
    ],
)
def test_what_means_srgb_changes_nothing(chunks: tuple[tuple[bytes, bytes], ...]) -> None:
    found = grey_png(*chunks)
    assert np.array_equal(shown(found)["plain"], GRAIN)
    assert not found.unseen


def test_usual_gamma_has_one_reading() -> None:
    assert len(grey_png(USUAL_GAMMA, USUAL_CORNERS)) == 1


@pytest.mark.parametrize(
    "chunk",
    [
        (b"iCCP", b"x\0\0junk"),
        (b"iCCP", b"x"),
        (b"iCCP", b""),
        (b"cICP", b"\1"),
        (b"cICP", bytes((1, 99, 0, 1))),
    ],
)
def test_a_chunk_that_cannot_be_read_is_told(chunk: tuple[bytes, bytes]) -> None:
    data = png(SIZE, SIZE, 8, 2, GRAIN.tobytes(), chunk)
    assert read_colour_spaces(Image.new("RGB", (1, 1)), data, "PNG").unusable


def test_a_transparent_colour_of_sixteen_bits_is_told() -> None:
    deep = (GRAIN.astype(">u2") * 257).tobytes()
    data = png(SIZE, SIZE, 16, 2, deep, (b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert of_file(data).unseen == {"colour"}


@pytest.mark.parametrize("name", ["AVIF", "HEIF"])
def test_coded_colours_of_avif_and_heif_are_applied(name: str) -> None:
    if name == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = encode(Image.new("RGB", (64, 64), (120, 120, 120)), name, quality=95)
    coded = data.index(b"colrnclx") + 8
    assert len(of_file(data)) == 1
    linear = data[:coded] + struct.pack(">HH", 1, 8) + data[coded + 4 :]
    found = shown(of_file(linear))
    assert [*found] == ["profile", "no profile"]
    assert abs(int(found["profile"][9, 9, 0]) - 182) <= 4
    unknown = data[:coded] + struct.pack(">HH", 1, 250) + data[coded + 4 :]
    assert read_colour_spaces(Image.new("RGB", (1, 1)), unknown, name).unusable


def bitmap(
    kind: bytes, *, corners: bytes = bytes(36), gammas: bytes = bytes(12), profile: bytes = b""
) -> bytes:
    """Return a 24-bit bitmap with the fifth version of its header."""
    rows = GRAIN[::-1, :, ::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 124, SIZE, SIZE, 1, 24, 0, len(rows), 0, 0, 0, 0) + bytes(16)
    header += kind[::-1] + corners + gammas
    header += struct.pack("<IIII", 4, 124 + len(rows), len(profile), 0)
    return b"BM" + struct.pack("<IHHI", 138 + len(rows), 0, 0, 138) + header + rows + profile


def test_the_profile_of_a_bitmap_is_applied() -> None:
    assert np.array_equal(shown(of_file(bitmap(b"sRGB")))["plain"], GRAIN)
    assert np.array_equal(shown(of_file(bitmap(bytes(4))))["plain"], GRAIN)
    found = shown(of_file(bitmap(b"MBED", profile=SWAPPED)))
    assert np.abs(found["profile"].astype(int) - GRAIN[..., ::-1]).max() <= 3
    steep = struct.pack("<3I", *[50 << 16] * 3)
    found = shown(of_file(bitmap(bytes(4), gammas=steep)))
    assert found["profile"].mean() < 30
    assert of_file(bitmap(b"LINK")).unseen == {"colour"}


def test_a_profile_in_a_gif_is_told() -> None:
    data = encode(quarters().quantize(4), "GIF")
    at = 13 + 3 * (2 << (data[10] & 7))
    tagged = data[:at] + b"\x21\xff\x0bICCRGBG1012\x03abc\0" + data[at:]
    assert of_file(tagged).unseen == {"colour"}
    assert not of_file(data).unseen


def test_transparency_and_a_profile_together() -> None:
    array = ink()
    array[..., :3] = np.where(DISC[..., None], (30, 20, 220), 255)
    found = shown(read_pixels(array, ColourSpaces((SWAPPED,))))
    assert {name.split(" ")[0] for name in found} == {"profile", "no"}
    assert np.abs(found["profile black"][24, 24].astype(int) - (220, 20, 30)).max() <= 2
    assert found["no profile black"][24, 24].tolist() == [30, 20, 220]


def test_a_steep_profile_is_odd_and_grey_may_use_it() -> None:
    assert needs_every_pixel(ColourSpaces((STEEP,)), "L")


def test_a_large_scrambled_jpeg_is_unscrambled_before_it_is_scaled() -> None:
    disc = np.kron(np.where(DISC, 230, 40), np.ones((24, 24), int))
    noise = np.random.default_rng(2).integers(-20, 20, disc.shape)
    stored = Image.fromarray(np.argsort(PERMUTED)[disc + noise].astype(np.uint8))
    data = encode(stored, "JPEG", quality=100, icc_profile=SCRAMBLED)
    small = Geometry(fit="shortest", size=(SIZE, SIZE), crop=(SIZE, SIZE))
    first = frames(data, [small])[0]
    assert first.view.reading == "profile"
    assert is_disc(first.inputs[small])
