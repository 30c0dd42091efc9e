"""PDQ, Meta's hash of what a picture shows: 256 bits that scaling and recompression hardly change.

After the published description ("The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm",
2019) and its reference implementation, whose hashes these are. Filtering and reducing are linear, so both
together are one matrix for each side here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

BITS: Final = 256
LEAST_QUALITY: Final = 50
"""Below it a picture has too little structure to be told from others: such hashes match nothing."""

_SIDE: Final = 64
"""Of the reduced picture."""
_FREQUENCIES: Final = 16
_LEAST_SIDE: Final = 5
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ROWS_AT_ONCE: Final = 128
_QUALITY_DIVISOR: Final = 90
_MOST_QUALITY: Final = 100

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PdqHash:
    """A hash of 32 bytes, and its quality, 0..100. Written down, the bytes are hexadecimal digits."""

    bits: bytes
    quality: int


def pdq_of(pixels: NDArray[np.uint8]) -> PdqHash:
    """Return the hash of a picture `(height, width, 3)`, RGB, at full size: a reduced one has another."""
    height, width = pixels.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        return PdqHash(bytes(BITS // 8), 0)
    small = _reduce(pixels)
    waves = _cosines()
    transformed = (waves @ small @ waves.T).ravel()
    middle = BITS // 2 - 1
    bits = transformed > np.partition(transformed, middle)[middle]
    return PdqHash(np.packbits(bits[::-1]).tobytes(), _quality(small))


def _reduce(pixels: NDArray[np.uint8]) -> Floats32:
    """Return the luma, filtered and reduced to `(64, 64)`."""
    height, width = pixels.shape[:2]
    down, across = _filter(height), _filter(width)
    rows = np.zeros((_SIDE, width), dtype=np.float32)
    for top in range(0, height, _ROWS_AT_ONCE):
        part = down[:, top : top + _ROWS_AT_ONCE]
        reached = np.flatnonzero(part.any(axis=1))
        if len(reached):
            rows[reached] += part[reached] @ (pixels[top : top + _ROWS_AT_ONCE] @ _LUMA)
    return np.asarray(rows @ across.T, dtype=np.float32)


@lru_cache(maxsize=64)
def _filter(length: int) -> Floats32:
    """Return the matrix `(64, length)` that averages twice over a window (Jarosz) and keeps 64 places."""
    window = (length + 2 * _SIDE - 1) // (2 * _SIDE)
    after = (window + 2) // 2 - 1
    before = window - 1 - after
    places = np.arange(length)
    first, end = np.maximum(places - before, 0), np.minimum(places + after, length - 1) + 1
    taken = ((np.arange(_SIDE) + 0.5) * length / _SIDE).astype(np.intp)
    once = (places >= first[taken, np.newaxis]) & (places < end[taken, np.newaxis])
    shares = once / (end - first)[taken, np.newaxis] / (end - first)
    # the second average: a place counts for all those whose window holds it
    sums = np.concatenate([np.zeros((_SIDE, 1)), np.cumsum(shares, axis=1)], axis=1)
    low, high = np.maximum(places - after, 0), np.minimum(places + before, length - 1) + 1
    return np.asarray(sums[:, high] - sums[:, low], dtype=np.float32)


@lru_cache(maxsize=1)
def _cosines() -> Floats32:
    """Return the matrix `(16, 64)` of the cosine transform without its constant term."""
    number, place = np.arange(1, _FREQUENCIES + 1)[:, np.newaxis], np.arange(_SIDE)
    waves = np.sqrt(2 / _SIDE) * np.cos(np.pi / 2 / _SIDE * number * (2 * place + 1))
    return np.asarray(waves, dtype=np.float32)


def _quality(small: Floats32) -> int:
    steps = (np.diff(small, axis=axis) * 100 / 255 for axis in (0, 1))
    total = sum(int(np.abs(np.trunc(step)).sum()) for step in steps)
    return min(total // _QUALITY_DIVISOR, _MOST_QUALITY)
