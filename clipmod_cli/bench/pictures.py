"""The pictures that are measured with: drawn ones with the detail of photographs, or the user's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.errors import UsageError
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.registry import expand
from clipmod_cli.types import Item

DRAWN = 24
"""Pictures that are drawn; more are copies that differ in a comment, so that no two files are equal."""

MOST_FILES = 1_000
"""Files that are written, about 200 MB; a longer run goes through them again."""

OCTAVES = ((256, 60.0), (64, 36.0), (16, 20.0), (4, 9.0), (1, 3.0))
"""Size of a feature in pixels, and its contrast in levels: files come out at 1.3 bits a pixel, as those of
photographs of this size by the same encoder do."""

QUALITY = 85


def draw_pictures(folder: Path, size: tuple[int, int]) -> list[bytes]:
    """Return some JPEGs of (width, height), each different; the folder is for a file in between."""
    return [draw_jpeg(folder, size, number) for number in range(DRAWN)]


def write_pictures(folder: Path, drawn: Sequence[bytes], count: int) -> list[Path]:
    """Write as many files as are wanted and allowed, no two of them equal, and return their paths."""
    paths: list[Path] = []
    for number in range(min(count, MOST_FILES)):
        path = folder / f"{number:05}.jpg"
        path.write_bytes(_with_comment(drawn[number % len(drawn)], f"{number}"))
        paths.append(path)
    return paths


def draw_jpeg(folder: Path, size: tuple[int, int], seed: int) -> bytes:
    """Return a JPEG of (width, height), the same for a seed each time."""
    width, height = size
    rng = np.random.default_rng(seed)
    levels = np.full((height, width, 3), 128.0, np.float32)
    for cell, contrast in OCTAVES:
        levels += contrast * _texture(rng, width, height, cell)
    path = folder / "drawn.jpg"
    Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).save(path, quality=QUALITY)
    data = path.read_bytes()
    path.unlink()
    return data


def _texture(rng: np.random.Generator, width: int, height: int, cell: int) -> NDArray[np.float32]:
    """Return noise of features so large, of mean 0 and contrast about 1, float32 `(h, w, 3)`."""
    small = rng.standard_normal((height // cell + 2, width // cell + 2, 3), dtype=np.float32)
    planes = [
        Image.fromarray(np.ascontiguousarray(small[..., i])).resize((width, height), Image.Resampling.BICUBIC)
        for i in range(3)
    ]
    return np.stack([np.asarray(plane, np.float32) for plane in planes], axis=-1)


def _with_comment(jpeg: bytes, text: str) -> bytes:
    """Return the JPEG with a comment behind its first marker (ITU-T T.81, B.2.4.5)."""
    said = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(said) + 2).to_bytes(2, "big") + said + jpeg[2:]


def find_pictures(folder: Path, count: int | None) -> list[Path]:
    """Return the user's own pictures, in the order in which `scan` takes them.

    Raises:
        UsageError: if there are none.
    """
    if not folder.exists():
        raise UsageError(f"there is no {folder}")
    found = (one for one in expand([str(folder)], Rules()) if isinstance(one, Item) and one.member is None)
    paths = [Path(item.source) for item in itertools.islice(found, count or MOST_FILES)]
    if not paths:
        raise UsageError(f"there are no pictures in {folder}")
    return paths


def items_of(paths: Sequence[Path], count: int) -> Iterator[Item]:
    """Yield so many inputs, going through the files again where they are fewer."""
    for index, path in zip(range(count), itertools.cycle(paths), strict=False):
        yield Item(source=str(path), index=index)
