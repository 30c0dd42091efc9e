"""Pictures with a meaning, made by code: four coloured quarters, so that a turned, mirrored or
discoloured picture is seen to be one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import Coverage, DecodeOptions
from clipmod_cli.results import Settled
from clipmod_cli.types import Failure, Frame, Geometry, Item, Media

CENTRE = Coverage(full=False)
"""One view, by each model's own transform."""

WHOLE = Geometry(fit="whole", size=(0, 0))
RED, GREEN, BLUE, YELLOW, WHITE, BLACK = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (255, 255, 255),
    (0, 0, 0),
)
QUARTERS = (RED, GREEN, BLUE, YELLOW)
"""Top left, top right, bottom left, bottom right."""

SIZE = (48, 32)
"""Width and height: different, so that a transposed picture is noticed."""

Colour = tuple[int, ...]


def quarters(
    colours: Sequence[Any] = QUARTERS, mode: str = "RGB", size: tuple[int, int] = SIZE
) -> Image.Image:
    """Return a picture of four rectangles: top left, top right, bottom left, bottom right."""
    picture = Image.new(mode, size)
    width, height = size[0] // 2, size[1] // 2
    for number, colour in enumerate(colours):
        left, top = (number % 2) * width, (number // 2) * height
        picture.paste(
            colour, (left, top, size[0] if number % 2 else width, size[1] if number > 1 else height)
        )
    return picture


def encode(picture: Image.Image, format_name: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_name, **settings)
    return buffer.getvalue()


def png(
    width: int, height: int, depth: int, colour_type: int, raw: bytes, *extra: tuple[bytes, bytes]
) -> bytes:
    """Return a PNG whose rows are `raw` (without filter bytes); `extra` chunks come before the data."""
    row = max(len(raw) // height, 1)
    filtered = b"".join(b"\0" + raw[at : at + row] for at in range(0, len(raw), row))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(filtered)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def as_item(data: bytes) -> Item:
    return Item(source="picture", index=0, data=data)


def results(data: bytes, geometries: Sequence[Geometry] = (WHOLE,), **options: Any) -> list[Frame | Settled]:
    """Return what decoding gives; the law that every result obeys is checked on the way."""
    item = as_item(data)
    found = decode_item(item, geometries, DecodeOptions(**{"coverage": CENTRE, **options}))
    check_law(item, found)
    return found


def check_law(item: Item, found: Sequence[Frame | Settled]) -> None:
    """One ending, at the end; all of the same item; Frames before it in order."""
    *before, end = found
    assert all(isinstance(result, Frame) and not result.last for result in before)
    assert isinstance(end, Failure) or end.last
    assert all(result.item is item for result in found)
    numbers = [result.number for result in found if isinstance(result, Frame)]
    assert numbers == sorted(numbers)
    assert all(result.media is found[0].media for result in found)


def frames(data: bytes, geometries: Sequence[Geometry] = (WHOLE,), **options: Any) -> list[Frame]:
    found = results(data, geometries, **options)
    assert not isinstance(found[-1], Failure), found[-1].message
    return [result for result in found if isinstance(result, Frame)]


def frame(data: bytes, geometries: Sequence[Geometry] = (WHOLE,), **options: Any) -> Frame:
    """Return the first reading of the only picture."""
    first, *others = frames(data, geometries, **options)
    assert all(other.number == first.number and other.view.reading != "plain" for other in others)
    return first


def failure(data: bytes, geometries: Sequence[Geometry] = (WHOLE,), **options: Any) -> Failure:
    end = results(data, geometries, **options)[-1]
    assert isinstance(end, Failure), "it was decoded"
    assert end.stage == "decode"
    assert end.message
    return end


def media(result: Frame | Settled) -> Media:
    assert result.media is not None
    return result.media


def pixels(data: bytes, **options: Any) -> NDArray[np.uint8]:
    return frame(data, **options).inputs[WHOLE]


def corners(array: NDArray[np.uint8]) -> list[Colour]:
    """Return the colours in the middle of the four quarters."""
    height, width = array.shape[0], array.shape[1]
    spots = [(height // 4, width // 4), (height // 4, width * 3 // 4)]
    spots += [(height * 3 // 4, width // 4), (height * 3 // 4, width * 3 // 4)]
    return [tuple(int(channel) for channel in array[spot]) for spot in spots]


def assert_corners(array: NDArray[np.uint8], expected: Sequence[Colour], tolerance: int = 0) -> None:
    found = corners(array)
    distance = np.abs(np.array(found) - np.array(expected)).max()
    assert distance <= tolerance, f"{found} instead of {list(expected)}"
