"""The directories of a TIFF: its pages, the pictures that are no pages, and where the file ends.

Also the thumbnail of raw pixels that EXIF metadata, a TIFF of its own, may hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from clipmod_cli.decode.contents.parts import Layout, Part
from clipmod_cli.decode.reading.boxes import BY_NAME, Span

_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_BYTES = 273, 277, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_SUB_IFDS, _JPEG_OFFSET, _JPEG_BYTES = 330, 513, 514
_METADATA_IFDS = (34665, 34853, 40965)
"""EXIF, GPS, interoperability (TIFF 6.0, section 8; EXIF 2.32, 4.6.3)."""

TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_UNSIGNED = frozenset({1, 3, 4, 13, 16, 18})

_UNCOMPRESSED = 1
_GROWTH = 1.25
"""By how much compressed data may be larger than the pixels, which only noise is."""

_MAX_IFDS = 1024
_MAX_NUMBERS = 4_000_000
"""Entries and values that are read of one file, in all its directories."""

_MAX_CANDIDATE_NUMBERS = 10_000
"""Where only four bytes promise a TIFF."""

_TAGS_READ = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_BYTES}
    | {_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _SUB_IFDS, _JPEG_OFFSET, _JPEG_BYTES}
    | {*_METADATA_IFDS}
)


@dataclass(frozen=True, slots=True)
class TiffReader:
    """A TIFF between two offsets of `data`; offsets within it count from `start`."""

    data: bytes
    start: int
    end: int
    budget: list[int]

    @classmethod
    def at(cls, data: bytes, start: int, end: int) -> TiffReader:
        """Return the TIFF between two offsets; it has no more numbers than bytes."""
        return cls(data, start, end, [min(end - start, _MAX_NUMBERS)])

    @property
    def order(self) -> Literal["little", "big"]:
        """The order of the bytes of a number."""
        return "little" if self.data.startswith(b"II", self.start) else "big"

    @property
    def big(self) -> bool:
        """Whether it is a BigTIFF."""
        return self.number(2, 2) == 43

    def number(self, at: int, width: int) -> int:
        """Return a number; 0 beyond the end."""
        at += self.start
        return int.from_bytes(self.data[at : at + width], self.order) if at + width <= self.end else 0

    @property
    def first(self) -> tuple[int, int]:
        """(where the header names the first directory, by how many bytes)."""
        return (8, 8) if self.big else (4, 4)


@dataclass(frozen=True, slots=True)
class _Directory:
    """An image file directory.

    Attributes:
        tags: the values of those that hold whole numbers.
        spans: what it occupies, with the values that lie elsewhere.
        following: where the next one of the chain is, 0 at its end.
        doubled: whether a tag is there twice; some decoders take the first, some the last.
    """

    tags: dict[int, list[int]]
    spans: list[Span]
    following: int
    doubled: bool = False

    def get(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag."""
        return next(iter(self.tags.get(tag, ())), default)

    @property
    def has_pixels(self) -> bool:
        """Whether it describes a picture."""
        return any(tag in self.tags for tag in (_STRIP_OFFSETS, _TILE_OFFSETS, _JPEG_OFFSET))


def tiff_layout(data: bytes) -> Layout:
    """Return the layout of a TIFF: its pages are its own frames, all other pictures in it are parts."""
    tiff = TiffReader.at(data, 0, len(data))
    pages = list(_chain(tiff, tiff.number(*tiff.first)))
    known = {at for at, _ in pages}
    others: list[tuple[int, _Directory]] = []
    for _, directory in pages:
        for tag in (_SUB_IFDS, *_METADATA_IFDS):
            for first in directory.tags.get(tag, ())[:_MAX_IFDS]:
                for at, found in _chain(tiff, first):
                    if at not in known and len(known) < _MAX_IFDS:
                        known.add(at)
                        others.append((at, found))
    used: list[Span] = [(0, 16 if tiff.big else 8)]
    pixels: list[Span] = []
    doubled = False
    for _, directory in (*pages, *others):
        doubled = doubled or (directory.doubled and directory.has_pixels)
        used += directory.spans
        pixels += _pixel_spans(directory, len(data))
    end = min(max(close for _, close in (*used, *pixels)), len(data))
    return Layout(
        end=end if pages else len(data),
        hidden=tuple(gaps(pixels, 0, end)),
        parts=tuple(_part(tiff, at) for at, found in others if found.has_pixels),
        unread=doubled or len(known) >= _MAX_IFDS or tiff.budget[0] <= 0,
    )


def exif_thumbnails(data: bytes, start: int, end: int) -> Iterator[Part]:
    """Yield the pictures in EXIF metadata that are not JPEGs, which are found by their signature."""
    tiff = TiffReader.at(data, start, end)
    for at, directory in list(_chain(tiff, tiff.number(*tiff.first)))[:4]:
        if _STRIP_OFFSETS in directory.tags and _JPEG_OFFSET not in directory.tags:
            yield _part(tiff, at)


def has_picture(data: bytes, start: int, end: int) -> bool:
    """Return whether there is a TIFF with a picture at `start`."""
    tiff = TiffReader(data, start, end, [_MAX_CANDIDATE_NUMBERS])
    return any(found.has_pixels for _, found in _chain(tiff, tiff.number(*tiff.first)))


def gaps(spans: list[Span], start: int, end: int) -> Iterator[Span]:
    """Yield what lies between `start` and `end` and in none of the spans."""
    for begin, close in sorted(spans):
        if begin > start:
            yield start, min(begin, end)
        start = max(start, close)
        if start >= end:
            return
    yield start, end


def _part(tiff: TiffReader, ifd: int) -> Part:
    """Return a directory's picture as the first page of a TIFF."""
    at, width = tiff.first
    return Part(
        offset=tiff.start,
        length=tiff.end - tiff.start,
        format=BY_NAME["TIFF"],
        role="preview",
        patches=((at, ifd.to_bytes(width, tiff.order)),),
    )


def _chain(tiff: TiffReader, at: int) -> Iterator[tuple[int, _Directory]]:
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MAX_IFDS:
        seen.add(at)
        directory = _read(tiff, at)
        if directory is None:
            return
        yield at, directory
        at = directory.following


def _read(tiff: TiffReader, at: int) -> _Directory | None:
    count_bytes, entry_bytes, place_bytes = (8, 20, 8) if tiff.big else (2, 12, 4)
    entries = tiff.number(at, count_bytes)
    link = at + count_bytes + entries * entry_bytes
    tiff.budget[0] -= entries
    if tiff.start + link > tiff.end or tiff.budget[0] <= 0:
        return None
    tags: dict[int, list[int]] = {}
    present: set[int] = set()
    spans = [(tiff.start + at, tiff.start + link + place_bytes)]
    for entry in range(at + count_bytes, link, entry_bytes):
        kind, count = tiff.number(entry + 2, 2), tiff.number(entry + 4, place_bytes)
        width = TYPE_BYTES.get(kind, 0)
        place = entry + 4 + place_bytes
        if width * count > place_bytes:
            place = tiff.number(place, place_bytes)
            spans.append((tiff.start + place, tiff.start + place + width * count))
        tag = tiff.number(entry, 2)
        present.add(tag)
        if tag in _TAGS_READ and kind in _UNSIGNED and tiff.start + place + width * count <= tiff.end:
            count = min(count, tiff.budget[0])
            tiff.budget[0] -= count
            tags[tag] = [tiff.number(place + width * one, width) for one in range(count)]
    return _Directory(tags, spans, tiff.number(link, place_bytes), doubled=len(present) < entries)


def _pixel_spans(directory: _Directory, end: int) -> Iterator[Span]:
    """Yield where pixels lie: no more bytes of each strip or tile than its pixels can need."""
    offsets = directory.tags.get(_TILE_OFFSETS) or directory.tags.get(_STRIP_OFFSETS) or []
    lengths = directory.tags.get(_TILE_BYTES) or directory.tags.get(_STRIP_BYTES) or []
    most = _most_bytes(directory)
    for number, offset in enumerate(offsets):
        length = lengths[number] if number < len(lengths) else most
        yield offset, min(offset + min(length, most), end)
    if directory.get(_JPEG_OFFSET):
        yield directory.get(_JPEG_OFFSET), min(directory.get(_JPEG_OFFSET) + directory.get(_JPEG_BYTES), end)


def _most_bytes(directory: _Directory) -> int:
    """Return how many bytes one strip or tile can need."""
    width, height = directory.get(_WIDTH), directory.get(_HEIGHT)
    if _TILE_OFFSETS in directory.tags:
        width, height = directory.get(_TILE_WIDTH), directory.get(_TILE_HEIGHT)
    else:
        height = min(directory.get(_ROWS, height), height)
    row = math.ceil(width * directory.get(_SAMPLES, 1) * directory.get(_BITS, 1) / 8)
    most = row * height
    return most if directory.get(_COMPRESSION, 1) == _UNCOMPRESSED else math.ceil(most * _GROWTH) + 1024
