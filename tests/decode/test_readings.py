"""What people see of transparent pictures, in whichever viewer."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.stills import readings
from clipmod_cli.decode.stills.colour_spaces import ColourSpaces
from clipmod_cli.decode.stills.profiles import VISIBLE_LEVELS
from clipmod_cli.decode.stills.readings import (
    read_picture,
    read_pixels,
)
from tests.decode.colour_profiles import (
    LEVEL,
    PERMUTED,
    SCRAMBLED,
    SWAPPED,
    grey_profile,
)
from tests.decode.pictures import WHOLE, encode, frames, media, png
from tests.decode.shown import DISC, GRAIN, SIZE, Pixels, ink, is_disc, of_file, shown


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
