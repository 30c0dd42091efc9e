"""What people see of transparent pictures, and of pictures with colour profiles, in whichever viewer."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.formats import load, sniff
from clipmod_cli.decode.stills import readings
from clipmod_cli.decode.stills.colour_spaces import ColourSpaces, read_colour_spaces
from clipmod_cli.decode.stills.planes import keep_premultiplied
from clipmod_cli.decode.stills.profiles import VISIBLE_LEVELS
from clipmod_cli.decode.stills.readings import (
    Readings,
    needs_every_pixel,
    read_picture,
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
from tests.decode.pictures import WHOLE, encode, frames, media, png, quarters

Pixels = NDArray[np.uint8]
SIZE = 48
DISC = np.hypot(*np.mgrid[-23.5:24, -23.5:24]) < 16
"""What a person is to see."""

GRAIN = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def of_file(data: bytes) -> Readings:
    known = sniff(data)
    assert known is not None
    opened = load(known.open)(io.BytesIO(data))
    spaces = read_colour_spaces(opened, data, known.name)
    keep_premultiplied(opened)
    opened.load()
    return read_picture(opened, spaces)


def shown(made: Readings) -> dict[str, Pixels]:
    found = {reading.name: reading.pixels for reading in made}
    assert tuple(found) == made.names, "names are in order, and no name is there twice"
    assert all(pixels.dtype == np.uint8 and pixels.shape[2] == 3 for pixels in found.values())
    return found


def ink(value: int = 255, depth: int = 8) -> NDArray[Any]:
    """Return the disc in alpha only: RGBA `(h, w, 4)` of one colour."""
    top = (1 << depth) - 1
    array = np.full((SIZE, SIZE, 4), value * top // 255, np.uint8 if depth == 8 else ">u2")
    array[..., 3] = np.where(DISC, top, 0)
    return array


def is_disc(pixels: Pixels) -> bool:
    levels = pixels.astype(int).mean(axis=2)
    return bool(abs(levels[DISC].mean() - levels[~DISC].mean()) > 60)


def palette_png() -> bytes:
    picture = Image.fromarray(DISC.astype(np.uint8))
    picture.putpalette([255] * 6)
    return encode(picture, "PNG", transparency=bytes((0, 255)))


def key_png(depth: int) -> bytes:
    """Return grey that is white and, but for one level, the transparent colour."""
    top = (1 << depth) - 1
    array = np.where(DISC, top, top - 1).astype(np.uint8 if depth == 8 else ">u2")
    return png(SIZE, SIZE, depth, 0, array.tobytes(), (b"tRNS", struct.pack(">H", top - 1)))


def grey_alpha(depth: int) -> bytes:
    return png(SIZE, SIZE, depth, 4, np.ascontiguousarray(ink(depth=depth)[..., 2:]).tobytes())


def gif() -> bytes:
    picture = Image.fromarray(DISC.astype(np.uint8))
    picture.putpalette([255] * 6)
    return encode(picture, "GIF", transparency=0)


def rgba(name: str, **options: Any) -> bytes:
    return encode(Image.fromarray(ink()), name, **options)


HIDDEN_ON_WHITE: dict[str, Callable[[], bytes]] = {
    "png": lambda: rgba("PNG"),
    "png-16": lambda: png(SIZE, SIZE, 16, 6, ink(depth=16).tobytes()),
    "png-grey": lambda: grey_alpha(8),
    "png-grey-16": lambda: grey_alpha(16),
    "png-palette": palette_png,
    "png-key": lambda: key_png(8),
    "png-key-16": lambda: key_png(16),
    "gif": gif,
    "webp": lambda: rgba("WEBP", quality=90),
    "webp-lossless": lambda: rgba("WEBP", lossless=True, exact=True),
    "avif": lambda: rgba("AVIF", quality=95),
    "tiff": lambda: rgba("TIFF"),
    "tiff-grey": lambda: encode(Image.fromarray(ink()).convert("LA"), "TIFF"),
}


@pytest.mark.parametrize("kind", HIDDEN_ON_WHITE)
def test_white_ink_is_seen_on_a_dark_page(kind: str) -> None:
    found = shown(of_file(HIDDEN_ON_WHITE[kind]()))
    assert list(found)[:3] == ["white", "black", "grey"]
    assert found["white"].min() >= 250
    assert is_disc(found["black"])
    assert is_disc(found["grey"])


def test_colours_under_alpha_are_seen_where_they_differ() -> None:
    array = np.dstack([np.where(DISC, 255, 0)] * 3 + [np.zeros_like(DISC)]).astype(np.uint8)
    found = shown(of_file(encode(Image.fromarray(array), "PNG")))
    assert [*found] == ["white", "black", "grey", "no alpha"]
    assert is_disc(found["no alpha"])
    assert not any(is_disc(found[name]) for name in ("white", "black", "grey"))


@pytest.mark.parametrize("alpha", [255, 250])
def test_an_opaque_picture_has_one_reading(alpha: int) -> None:
    array = np.dstack([GRAIN, np.full((SIZE, SIZE), alpha, np.uint8)])
    found = shown(of_file(encode(Image.fromarray(array), "PNG")))
    assert [*found] == ["plain"]
    assert np.abs(found["plain"].astype(int) - GRAIN).max() <= 255 - alpha


@pytest.mark.parametrize("share", [0.003, 0.02])
def test_a_small_transparent_part_counts_from_one_percent(share: float) -> None:
    alpha = np.full(SIZE * SIZE, 255, np.uint8)
    alpha[: int(share * SIZE * SIZE)] = 0
    array = np.dstack([np.full((SIZE, SIZE, 3), 90, np.uint8), alpha.reshape(SIZE, SIZE)])
    assert (len(read_pixels(array)) > 1) == (share >= 0.01)


def test_a_part_of_a_strip_counts_by_the_square_that_models_see() -> None:
    array = np.full((20, 2000, 4), 255, np.uint8)
    array[4:16, 100:112, 3] = 0  # 0.4 % of the pixels, a third of a square
    assert read_pixels(array).names == ("white", "black", "grey")


def tiff(samples: NDArray[Any], extra: int) -> bytes:
    """Return a TIFF with an extra sample, of the kinds that Pillow reads but does not write."""
    height, width, count = samples.shape
    depths = struct.pack(f"<{count}H", *[8 * samples.itemsize] * count)
    values = {256: width, 257: height, 259: 1, 262: 2, 277: count, 278: height, 284: 1, 338: extra}
    at = 8 + 2 + 12 * 11 + 4
    values |= {258: at, 273: at + len(depths), 279: samples.nbytes}
    directory = b"".join(
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, count if tag == 258 else 1, values[tag])
        for tag in sorted(values)
    )
    return b"II*\0" + struct.pack("<IH", 8, 11) + directory + bytes(4) + depths + samples.tobytes()


@pytest.mark.parametrize("extra", [0, 1], ids=["unspecified", "associated"])
@pytest.mark.parametrize("depth", [8, 16])
def test_colours_that_alpha_should_have_multiplied_are_seen(extra: int, depth: int) -> None:
    array = np.dstack([np.where(DISC, 255, 0)] * 3 + [np.zeros_like(DISC)])
    stored = array.astype(np.uint8) if depth == 8 else (array * 257).astype("<u2")
    assert is_disc(shown(of_file(tiff(stored, extra)))["no alpha"])


def test_associated_alpha_is_composed_once() -> None:
    alpha = np.where(DISC, 128, 255)
    array = np.dstack([np.where(DISC, 100, 200)] * 3 + [alpha]).astype(np.uint8)
    found = shown(of_file(tiff(array, 1)))
    inside = {name: int(pixels[24, 24, 0]) for name, pixels in found.items()}
    assert abs(inside["white"] - (100 + 127)) <= 1
    assert abs(inside["black"] - 100) <= 1
    assert abs(int(found["white"][0, 0, 0]) - 200) <= 1


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


def test_decoded_pixels_are_read_like_pictures() -> None:
    assert next(iter(read_pixels(GRAIN))).pixels is GRAIN
    spaces = ColourSpaces((SCRAMBLED,))
    assert np.array_equal(
        shown(read_pixels(GRAIN.copy(), spaces))["profile"], PERMUTED[GRAIN].astype(np.uint8)
    )
    grey = np.repeat(GRAIN[..., :1], 3, axis=2)
    found = shown(read_pixels(grey, ColourSpaces((grey_profile(LEVEL**9),)), grey=True))
    assert [*found] == ["profile", "no profile"]
    assert [*shown(read_pixels(ink()))] == ["white", "black", "grey"]


def test_transparency_and_a_profile_together() -> None:
    array = ink()
    array[..., :3] = np.where(DISC[..., None], (30, 20, 220), 255)
    found = shown(read_pixels(array, ColourSpaces((SWAPPED,))))
    assert {name.split(" ")[0] for name in found} == {"profile", "no"}
    assert np.abs(found["profile black"][24, 24].astype(int) - (220, 20, 30)).max() <= 2
    assert found["no profile black"][24, 24].tolist() == [30, 20, 220]


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0, 1e6])
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_a_few_huge_numbers_do_not_blacken_the_rest(top: float, kind: type) -> None:
    if kind is np.int32 and top == 1.0:
        pytest.skip("two colours")
    values = np.where(DISC, 0.9 * top, 0.1 * top)
    values[0, :5] = 2e9
    found = shown(of_file(encode(Image.fromarray(values.astype(kind)), "TIFF")))
    assert is_disc(found["plain"])
    assert "full range" in found


def test_many_huge_numbers_do_not_blacken_usual_floats() -> None:
    values = np.where(DISC, 0.9, 0.1)
    values[:6] = 1e9
    found = shown(read_picture(Image.fromarray(values.astype(np.float32))))
    assert any(is_disc(pixels) for pixels in found.values())


@pytest.mark.parametrize("strip", [1, SIZE, 5 * SIZE + 1])
def test_strips_give_what_the_whole_gives(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.fromarray(np.dstack([GRAIN, GRAIN[..., :1]]))
    whole = shown(read_picture(picture, ColourSpaces((SWAPPED,))))
    monkeypatch.setattr(readings, "STRIP_PIXELS", strip)
    monkeypatch.setattr(readings, "_COMPARED_PIXELS", strip)
    parts = shown(read_picture(picture, ColourSpaces((SWAPPED,))))
    assert [*parts] == [*whole]
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(1, 40), st.integers(1, 40))
def test_every_page_is_a_reading_or_looks_like_one(colour: int, alpha: int, width: int, height: int) -> None:
    """The law: however a viewer shows the picture, a reading differs by few levels at most."""
    array = np.full((height, width, 4), colour, np.uint8)
    array[..., 3] = alpha
    found = [int(pixels[0, 0, 0]) for pixels in shown(read_pixels(array)).values()]
    for page in (255, 128, 0):
        seen = (colour * alpha + page * (255 - alpha)) / 255
        assert min(abs(seen - level) for level in found) <= VISIBLE_LEVELS + 1
    assert min(abs(colour - level) for level in found) <= VISIBLE_LEVELS + 1


def test_a_steep_profile_is_odd_and_grey_may_use_it() -> None:
    assert needs_every_pixel(ColourSpaces((STEEP,)), "L")


def gif_frame(
    box: tuple[int, int, int, int], indices: Pixels, *, disposal: int, transparent: int | None = None
) -> bytes:
    """Return a frame of a GIF with two colours, in codes of three bits that are never compressed."""
    left, top, width, height = box
    control = struct.pack("<BHB", disposal << 2 | (transparent is not None), 10, transparent or 0)
    codes: list[int] = []
    for index in indices.ravel():
        codes += [4, int(index)]  # the table is cleared before each
    bits = "".join(f"{code:03b}"[::-1] for code in [*codes, 5])
    packed = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    blocks = b"".join(bytes([len(part := packed[at : at + 255])]) + part for at in range(0, len(packed), 255))
    header = b"\x21\xf9\x04" + control + b"\0" + b"," + struct.pack("<4HB", left, top, width, height, 0)
    return header + b"\x02" + blocks + b"\0"


def moving_gif(*parts: bytes) -> bytes:
    """Return a GIF with the colours black and white, of which black is the background."""
    head = b"GIF89a" + struct.pack("<HHBBB", SIZE, SIZE, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    return head + b"".join(parts) + b";"


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
def test_black_ink_is_seen_where_a_gif_has_drawn_nothing(disposal: int) -> None:
    dot = gif_frame((0, 0, 1, 1), np.zeros((1, 1), np.uint8), disposal=disposal)
    disc = gif_frame((0, 0, SIZE, SIZE), (~DISC).astype(np.uint8), disposal=disposal, transparent=1)
    for parts in ((dot, disc), (dot, disc, disc)):
        shown_frames = [each.inputs[WHOLE] for each in frames(moving_gif(*parts)) if each.number]
        assert any(is_disc(pixels) for pixels in shown_frames)


def test_what_a_gif_frame_leaves_is_under_the_next() -> None:
    """Pillow lets a frame go where the one before it was to be removed, although it is not."""
    dot = gif_frame((0, 0, 1, 1), np.ones((1, 1), np.uint8), disposal=2)
    ink_of = (~DISC).astype(np.uint8)
    halves = [gif_frame((x, 0, 24, SIZE), ink_of[:, x : x + 24], disposal=0) for x in (0, 24)]
    *_, last = [each for each in frames(moving_gif(dot, *halves)) if each.number == 2]
    assert np.array_equal(last.inputs[WHOLE][..., 0] < 128, DISC)


@pytest.mark.parametrize(("mode", "told"), [("RGB", True), ("RGBA", False)])
def test_an_apng_whose_canvas_pillow_fills_is_told(mode: str, told: bool) -> None:
    pictures = [Image.fromarray(GRAIN).convert(mode).transpose(turn) for turn in Image.Transpose]
    data = encode(pictures[0], "PNG", save_all=True, append_images=pictures[1:4], disposal=1, duration=100)
    unseen = media(frames(data)[0]).unseen
    assert ("other_content" in unseen) == told
    kept = encode(pictures[0], "PNG", save_all=True, append_images=pictures[1:4], duration=100)
    assert not media(frames(kept)[0]).unseen


def test_a_large_scrambled_jpeg_is_unscrambled_before_it_is_scaled() -> None:
    disc = np.kron(np.where(DISC, 230, 40), np.ones((24, 24), int))
    noise = np.random.default_rng(2).integers(-20, 20, disc.shape)
    stored = Image.fromarray(np.argsort(PERMUTED)[disc + noise].astype(np.uint8))
    data = encode(stored, "JPEG", quality=100, icc_profile=SCRAMBLED)
    small = Geometry(fit="shortest", size=(SIZE, SIZE), crop=(SIZE, SIZE))
    first = frames(data, [small])[0]
    assert first.view.reading == "profile"
    assert is_disc(first.inputs[small])
