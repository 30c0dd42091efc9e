"""TIFF: the tags and strips that its pages are shown by; all else is zeros, or cut off."""

from __future__ import annotations

from typing import Final

from clipmod_cli.decode.contents.chunks import MAX_CHUNKS
from clipmod_cli.decode.contents.tiff import TYPE_BYTES, TiffReader
from clipmod_cli.server.hosting.metadata.errors import UnstrippableError

_STRIPS: Final = {273: 279, 324: 325}
"""The tag of the lengths by the tag of the offsets: of strips, of tiles."""

_COMPRESSION: Final = 259
_JPEGS: Final = frozenset({6, 7})
"""Compressions whose strips are JPEGs, with metadata of their own."""

_PROFILE: Final = 34675
_SHOWN: Final = frozenset(
    {
        254, 255, 256, 257, 258, _COMPRESSION, 262, 263, 266, 274, 277, 278, 280, 281, 282, 283, 284,
        290, 291, 292, 293, 296, 301, 317, 318, 319, 320, 322, 323, 332, 334, 338, 339, 340, 341,
        529, 530, 531, 532, _PROFILE, *_STRIPS, *_STRIPS.values(),
    }
)  # fmt: skip
"""Sizes, layout of pixels and colours, orientation, resolution, the profile (TIFF 6.0)."""

_TEXTS: Final = frozenset({2, 7})
"""Types of values that hold anything: ASCII and undefined. Of what is shown only the profile has one."""

_MOST_READ: Final = 4
"""Times the file's size that is read at most: parts of a hostile file may overlap."""


def strip_tiff(data: bytes) -> bytes:
    """Return a TIFF whose directories and strips lie where they did.

    Raises:
        UnstrippableError: it is damaged, or its pixels are JPEGs.
    """
    return _Scrubber(data).run()


class _Scrubber:
    """Copies what is shown of a TIFF into an empty file of the same layout."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._tiff = TiffReader.at(data, 0, len(data))
        self._out = bytearray(len(data))
        self._end = 0
        self._left = _MOST_READ * len(data)

    def run(self) -> bytes:
        at, width = self._tiff.first
        self._copy(0, at + width)
        seen: set[int] = set()
        directory = self._tiff.number(at, width)
        while directory:
            if directory in seen:
                raise UnstrippableError("its directories go round in a circle")
            seen.add(directory)
            directory = self._directory(directory)
        if not seen:
            raise UnstrippableError("it holds no picture")
        return bytes(self._out[: self._end])

    def _copy(self, start: int, length: int) -> None:
        self._put(start, self._data[start : start + length], length)

    def _put(self, start: int, data: bytes, length: int) -> None:
        end = start + length
        self._spend(length)
        if end > len(self._data):
            raise UnstrippableError("the file is damaged")
        self._out[start:end] = data
        self._end = max(self._end, end)

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise UnstrippableError("parts of it overlap")

    def _directory(self, at: int) -> int:
        """Copy a directory with its strips; return where the next one is."""
        tiff = self._tiff
        count_bytes, entry_bytes, place_bytes = (8, 20, 8) if tiff.big else (2, 12, 4)
        entries = tiff.number(at, count_bytes)
        link = at + count_bytes + entries * entry_bytes
        if link + place_bytes > len(self._data):
            raise UnstrippableError("the file is damaged")
        self._spend(entries * entry_bytes)
        kept: list[bytes] = []
        values: dict[int, list[int]] = {}
        for entry in range(at + count_bytes, link, entry_bytes):
            tag = tiff.number(entry, 2)
            if tag in _SHOWN and (tag == _PROFILE or tiff.number(entry + 2, 2) not in _TEXTS):
                kept.append(self._data[entry : entry + entry_bytes])
                values[tag] = self._value(entry, place_bytes)
        following = tiff.number(link, place_bytes)
        body = len(kept).to_bytes(count_bytes, tiff.order) + b"".join(kept)
        body += following.to_bytes(place_bytes, tiff.order)
        self._put(at, body, len(body))
        self._strips(values)
        return following

    def _value(self, entry: int, place_bytes: int) -> list[int]:
        """Copy a value that lies elsewhere; return the numbers of one that says where strips are."""
        tiff = self._tiff
        width, count = TYPE_BYTES.get(tiff.number(entry + 2, 2), 0), tiff.number(entry + 4, place_bytes)
        place = entry + 4 + place_bytes
        if not width:
            raise UnstrippableError("it has values of an unknown type")
        if width * count > place_bytes:
            place = tiff.number(place, place_bytes)
            self._copy(place, width * count)
        if tiff.number(entry, 2) not in {_COMPRESSION, *_STRIPS, *_STRIPS.values()}:
            return []
        if count > MAX_CHUNKS:
            raise UnstrippableError("it has too many strips")
        return [tiff.number(place + width * one, width) for one in range(count)]

    def _strips(self, values: dict[int, list[int]]) -> None:
        if _JPEGS.intersection(values.get(_COMPRESSION, ())):
            raise UnstrippableError("its pixels are JPEGs")
        for offsets, lengths in _STRIPS.items():
            pairs = zip(values.get(offsets, []), values.get(lengths, []), strict=True)
            for start, length in pairs:
                self._copy(start, length)
        if not any(tag in values for tag in _STRIPS):
            raise UnstrippableError("a page has no pixels")
