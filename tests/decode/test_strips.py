"""Large pictures are converted strip by strip, with the same result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stills import readings
from clipmod_cli.decode.stills.readings import read_picture
from tests.decode.pictures import CENTRE, WHOLE, as_item, encode, quarters

RNG = np.random.default_rng(0)
WIDTH, HEIGHT = 23, 37
NOISE = RNG.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
RGBA = Image.fromarray(NOISE)
NUMBERS = RNG.normal(0, 1e4, (HEIGHT, WIDTH)).astype(np.float32)
NUMBERS[3, 4], NUMBERS[30, 1], NUMBERS[20, 20] = np.nan, np.inf, -np.inf


def transparent(mode: str, key: object) -> Image.Image:
    picture = RGBA.convert("RGB").quantize(16) if mode == "P" else RGBA.convert(mode)
    picture.info["transparency"] = key
    return picture


def deep() -> Image.Image:
    grey = Image.fromarray(RNG.integers(0, 1 << 16, (HEIGHT, WIDTH), dtype=np.uint16))
    grey.info["transparency"] = int(np.asarray(grey)[5, 5])
    return grey


PICTURES = {
    **{
        mode: RGBA.convert(mode) for mode in ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F")
    },
    "P": RGBA.convert("RGB").quantize(16),
    "LAB": Image.frombytes("LAB", (WIDTH, HEIGHT), NOISE[:, :, :3].tobytes()),
    "P-transparent": transparent("P", 3),
    "L-transparent": transparent("L", 7),
    "RGB-transparent": transparent("RGB", tuple(int(c) for c in NOISE[2, 2, :3])),
    "I;16": deep(),
    "I-low": Image.fromarray(RNG.integers(-900, 70_000, (HEIGHT, WIDTH), dtype=np.int32)),
    "F-odd": Image.fromarray(NUMBERS),
    "F-none": Image.fromarray(np.full((HEIGHT, WIDTH), np.nan, np.float32)),
}


@pytest.mark.parametrize("label", PICTURES)
@pytest.mark.parametrize("strip", [1, WIDTH, 5 * WIDTH + 1, WIDTH * HEIGHT - 1])
def test_strips_give_what_the_whole_gives(label: str, strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [*read_picture(PICTURES[label])]
    monkeypatch.setattr(readings, "STRIP_PIXELS", strip)
    parts = [*read_picture(PICTURES[label])]
    assert [name for name, _ in parts] == [name for name, _ in whole]
    for (_, found), (_, expected) in zip(parts, whole, strict=True):
        assert found.dtype == np.uint8
        assert (found.shape, found.flags.writeable) == ((HEIGHT, WIDTH, 3), True)
        assert np.array_equal(found, expected)


def test_a_tiffs_own_tags_count_in_every_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = Image.fromarray(RNG.integers(0, 1 << 12, (HEIGHT, WIDTH), dtype=np.uint16))
    data = encode(grey, "TIFF", tiffinfo={262: 0})  # white is zero
    whole = decode_item(as_item(data), [WHOLE], DecodeOptions(coverage=CENTRE))
    monkeypatch.setattr(readings, "STRIP_PIXELS", 50)
    (frame,) = decode_item(as_item(data), [WHOLE], DecodeOptions(coverage=CENTRE))
    assert np.array_equal(frame.inputs[WHOLE], whole[0].inputs[WHOLE])  # type: ignore[union-attr]
    assert frame.inputs[WHOLE].max() > 200  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "weight"), [("JPEG", 1), ("PNG", 2), ("TIFF", 2), ("GIF", 2), ("AVIF", 3), ("WEBP", 4)]
)
def test_hungry_decoders_take_more_of_the_budget(name: str, weight: int) -> None:
    asked: list[int] = []

    @contextmanager
    def gate(pixels: int) -> Iterator[None]:
        asked.append(pixels)
        yield

    data = encode(quarters(), name, **({} if name != "WEBP" else {"lossless": True}))
    decode_item(as_item(data), [WHOLE], DecodeOptions(coverage=CENTRE), gate=gate)
    assert asked == [48 * 32 * weight]
