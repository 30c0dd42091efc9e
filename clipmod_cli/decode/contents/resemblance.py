"""Whether a picture may be left out, since its declared role is true: it shows what the primary one shows.

A declared role can be false. So the pixels are compared, in colour and place by place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.contents.parts import Role

SIDE = 32
"""Both pictures are scaled to this many pixels a side."""

LEAST_CORRELATION = 0.8

BLOCK = 8
MOST_DIFFERENCE = 24.0
"""In every block of the scaled pictures the mean difference, in levels after the brightness is normalised, is
at most this: a small picture in a corner of a large one hardly moves the correlation."""

_FAINT = 64.0
"""The strength of a picture without contrast: 1.2 levels on average."""

_BAR = 24
"""The brightest level of the black bars that cameras put beside thumbnails of another shape."""

_GREY = 2
"""Levels by which the channels of a grey picture differ at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """A picture as it is compared.

    Attributes:
        scaled: `(32, 32, 3)`, each cell the mean of what it covers.
        ratio: its width divided by its height.
    """

    scaled: NDArray[np.float64]
    ratio: float

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Likeness:
        """Return it of a picture, uint8 `(h, w, 3)` as stored."""
        image = Image.fromarray(np.ascontiguousarray(pixels))
        scaled = image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
        return cls(np.asarray(scaled, np.float64), pixels.shape[1] / pixels.shape[0])


def is_excused(pixels: NDArray[np.uint8], role: Role | None, primary: Likeness) -> bool:
    """Return whether a picture of a declared role shows nothing that the primary one does not.

    Args:
        pixels: uint8 `(h, w, 3)` as stored.
        role: as declared; without one it is never excused.
        primary: the primary picture, as stored.
    """
    if role is None:
        return False
    if role == "map" and _is_grey(pixels):
        return True
    return resembles(Likeness.of(pixels), primary) or resembles(
        Likeness.of(_without_bars(pixels, primary.ratio)), primary
    )


def resembles(picture: Likeness, primary: Likeness) -> bool:
    """Return whether two pictures show the same, whatever their size and brightness."""
    one, other = picture.scaled - picture.scaled.mean(), primary.scaled - primary.scaled.mean()
    strengths = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    if min(strengths) < _FAINT:  # of one colour: alike if both are
        return max(strengths) < _FAINT and _closest(picture, primary)
    if float((one * other).sum()) / (strengths[0] * strengths[1]) < LEAST_CORRELATION:
        return False
    difference = np.abs(one * (strengths[1] / strengths[0]) - other).mean(axis=2)
    blocks = difference.reshape(SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK).mean(axis=(1, 3))
    return bool(blocks.max() <= MOST_DIFFERENCE)


def _closest(picture: Likeness, primary: Likeness) -> bool:
    return bool(np.abs(picture.scaled - primary.scaled).max() <= MOST_DIFFERENCE)


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    red, green, blue = np.moveaxis(pixels, 2, 0)
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return int((most - least).max(initial=0)) <= _GREY


def _without_bars(pixels: NDArray[np.uint8], ratio: float) -> NDArray[np.uint8]:
    """Return a thumbnail without the black bars that give it another shape than the primary picture's."""
    height, width = pixels.shape[:2]
    wide, high = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - wide) // 2, (height - high) // 2
    inner = np.zeros((height, width), bool)
    inner[top : top + high, left : left + wide] = True
    if not high or not wide or pixels[~inner].max(initial=0) > _BAR:
        return pixels
    return pixels[top : top + high, left : left + wide]
