"""Pictures to measure with: drawn ones with the detail of photographs, or the user's."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.errors import UsageError
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.registry import expand
from clipmod_cli.types import Item

DRAWN = 24
"""Pictures that are drawn; further files have other contrasts, so that no two look equal to models."""

MOST_FILES = 1_000
"""Files written, about 200 MB; longer runs use them several times."""

VARIED = 6
"""Frequencies whose contrast is varied: 729 variants of each picture."""

OCTAVES = ((256, 60.0), (64, 36.0), (16, 20.0), (4, 9.0), (1, 3.0))
"""Size of a feature in pixels, and its contrast in levels: files come out at 1.3 bits a pixel, as those of
photographs of this size by the same encoder do."""

QUALITY = 85


def draw_pictures(size: tuple[int, int]) -> list[bytes]:
    """Return DRAWN different JPEGs of (width, height)."""
    return [draw_jpeg(size, number) for number in range(DRAWN)]


def write_pictures(folder: Path, drawn: Sequence[bytes], count: int) -> list[Path]:
    """Write `count` files (at most MOST_FILES), no two of equal pixels, and return their paths."""
    paths: list[Path] = []
    for number in range(min(count, MOST_FILES)):
        path = folder / f"{number:05}.jpg"
        path.write_bytes(_varied(drawn[number % len(drawn)], number // len(drawn)))
        paths.append(path)
    return paths


def draw_jpeg(size: tuple[int, int], seed: int) -> bytes:
    """Return the JPEG of (width, height) of this seed."""
    width, height = size
    rng = np.random.default_rng(seed)
    levels = np.full((height, width, 3), 128.0, np.float32)
    for cell, contrast in OCTAVES:
        levels += contrast * _texture(rng, width, height, cell)
    file = io.BytesIO()
    Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _texture(rng: np.random.Generator, width: int, height: int, cell: int) -> NDArray[np.float32]:
    """Return noise with features of `cell` pixels, mean 0, contrast about 1, float32 `(h, w, 3)`."""
    small = rng.standard_normal((height // cell + 2, width // cell + 2, 3), dtype=np.float32)
    planes = [
        Image.fromarray(np.ascontiguousarray(small[..., i])).resize((width, height), Image.Resampling.BICUBIC)
        for i in range(3)
    ]
    return np.stack([np.asarray(plane, np.float32) for plane in planes], axis=-1)


def _varied(jpeg: bytes, number: int) -> bytes:
    """Return the JPEG with other contrasts, without decoding it; 0 changes nothing.

    The digits of `number` to the base 3 are added to the low frequencies of its first quantisation table
    (ITU-T T.81, B.2.4.1), by which a decoder multiplies.
    """
    first = jpeg.index(b"\xff\xdb") + 5  # the marker, two bytes of length, the table's number
    table = bytearray(jpeg[first : first + VARIED])
    for place in range(VARIED):
        number, digit = divmod(number, 3)
        table[place] += digit
    return jpeg[:first] + bytes(table) + jpeg[first + VARIED :]


def find_pictures(folder: Path, count: int | None) -> list[Path]:
    """Return the user's pictures in the order of `scan`.

    Raises:
        UsageError: if there are none.
    """
    if not folder.exists():
        raise UsageError(f"{folder} does not exist")
    found = (one for one in expand([str(folder)], Rules()) if isinstance(one, Item) and one.member is None)
    paths = [Path(item.source) for item in itertools.islice(found, count or MOST_FILES)]
    if not paths:
        raise UsageError(f"{folder} has no pictures")
    return paths


def items_of(paths: Sequence[Path], count: int) -> Iterator[Item]:
    """Yield `count` inputs; files come several times if they are fewer."""
    for index, path in zip(range(count), itertools.cycle(paths), strict=False):
        yield Item(source=str(path), index=index)


@dataclass(frozen=True, slots=True)
class BenchPictures:
    """The files that are measured.

    Attributes:
        drawn: the JPEGs of which more files can be written into `folder`; none for the user's pictures.
    """

    paths: Sequence[Path]
    drawn: Sequence[bytes]
    folder: Path

    @classmethod
    def of(cls, named: Path | None, count: int | None, size: tuple[int, int], folder: Path) -> Self:
        """Return the user's pictures, or some that are drawn into a folder.

        Args:
            named: the user's folder; None draws.
            count: the most of the user's pictures; None is all.
            size: (width, height) of drawn pictures.
            folder: for drawn pictures.

        Raises:
            UsageError: there are none.
        """
        if named:
            return cls(find_pictures(named, count), (), folder)
        drawn = draw_pictures(size)
        return cls(write_pictures(folder, drawn, len(drawn)), drawn, folder)

    def for_count(self, count: int) -> Sequence[Path]:
        """Return `count` files (at most MOST_FILES) if they are drawn, else those that there are."""
        return write_pictures(self.folder, self.drawn, count) if self.drawn else self.paths
