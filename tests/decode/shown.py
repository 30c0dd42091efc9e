"""Pictures of which people see a disc, and what is shown of a file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.decode.formats import load, sniff
from clipmod_cli.decode.stills.colour_spaces import read_colour_spaces
from clipmod_cli.decode.stills.planes import keep_premultiplied
from clipmod_cli.decode.stills.readings import (
    Readings,
    read_picture,
)

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
