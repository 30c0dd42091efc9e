"""The boxes of ISO base media files (MP4, MOV, HEIF, AVIF): where the file ends, its tracks and its pictures.

What a file is follows from these, never from its brand, which can be false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeAlias

from clipmod_cli.decode.formats import FORMATS, Format

Span: TypeAlias = tuple[int, int]
"""(start, end) in bytes."""

Read: TypeAlias = Callable[[int, int], bytes]
"""Called with an offset and a number of bytes; returns fewer where the file ends."""

BY_NAME: dict[str, Format] = {known.name: known for known in FORMATS}

MAX_BOXES = 100_000
"""That are walked in a file; a fragmented film of hours has fewer."""

_META_BOXES = frozenset({b"pitm", b"iinf", b"iloc", b"iref", b"iprp", b"idat"})
"""Of which a `meta` box has one each; decoders differ in which of two they read."""

_MAX_META_BYTES = 1 << 24
_MAX_ITEMS = 4096
_MAX_EXTENTS = 256

_WITHOUT_PICTURES = frozenset(
    {b"soun", b"text", b"sbtl", b"subt", b"subp", b"clcp", b"meta", b"tmcd", b"hint", b"auxv"}
)
"""Handlers of tracks that show nothing but words; any other one may show pictures."""

CODED_ITEMS = {
    b"hvc1": "HEIF",
    b"hev1": "HEIF",
    b"av01": "AVIF",
    b"jpeg": "HEIF",
    b"avc1": "HEIF",
    b"vvc1": "HEIF",
    b"j2k1": "HEIF",
    b"unci": "HEIF",
    b"mski": "HEIF",
}
"""Types of items that are coded pictures, and the format whose decoder is asked for them."""

DERIVED_ITEMS = frozenset({b"grid", b"iovl", b"iden"})
"""Types of items that are put together from others."""

_DATA_ITEMS = frozenset({b"Exif", b"mime", b"uri ", b"tmap", b"rgan", b"free"})
"""Types of items that are no pictures: metadata, how to apply a gain map, regions, what was blanked."""


@dataclass(frozen=True, slots=True)
class IsoBox:
    """A box: its type, where it begins, where its body begins, and where it ends."""

    kind: bytes
    start: int
    body: int
    end: int


@dataclass(frozen=True, slots=True)
class HeifItem:
    """An item of a file's `meta` box (ISO/IEC 14496-12, 8.11).

    Attributes:
        hidden: declared as not to be shown by itself.
        flag_at: where the byte with that flag is.
        spans: its bytes in the file.
    """

    id: int
    kind: bytes
    hidden: bool
    flag_at: int
    spans: tuple[Span, ...]

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture by itself."""
        return self.kind in CODED_ITEMS or self.kind in DERIVED_ITEMS

    @property
    def is_known(self) -> bool:
        """Whether it is known to be a picture, or known to be none."""
        return self.is_picture or self.kind in _DATA_ITEMS


@dataclass(frozen=True, slots=True)
class ItemReference:
    """That item `source` refers to items `targets`; `at` is where the type of the reference is."""

    kind: bytes
    at: int
    source: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeifItems:
    """The pictures in a `meta` box.

    Attributes:
        primary: the ID of the item that is shown.
        primary_at: where that number is, and by how many bytes.
        incomplete: there is more than is in `items`: too much, of an unknown type, or described twice.
    """

    primary: int
    primary_at: tuple[int, int]
    items: dict[int, HeifItem]
    references: tuple[ItemReference, ...]
    incomplete: bool

    def format_of(self, number: int) -> str | None:
        """Return the format of an item, by its code or by that of its first tile; None if it has none."""
        seen: set[int] = set()
        while number in self.items and number not in seen:
            seen.add(number)
            kind = self.items[number].kind
            if kind in CODED_ITEMS:
                return CODED_ITEMS[kind]
            sources = (one for one in self.references if one.kind == b"dimg" and one.source == number)
            number = next((one.targets[0] for one in sources if one.targets), -1)
        return None


def boxes(read: Read, start: int, end: int) -> Iterator[IsoBox]:
    """Yield the boxes of any type between two offsets; the last one may be cut off by the end."""
    for _ in range(MAX_BOXES):
        head = read(start, min(16, end - start)) if start + 8 <= end else b""
        if len(head) < 8:
            return
        size, body = int.from_bytes(head[:4], "big"), start + 8
        if size == 1:
            size, body = int.from_bytes(head[8:16], "big"), start + 16
        stop = start + size if size else end
        if stop < body:
            return
        yield IsoBox(head[4:8], start, body, min(stop, end))
        start = stop


def top_boxes(read: Read, start: int, end: int) -> Iterator[IsoBox]:
    """Yield the boxes of a file, up to bytes that cannot be one: something else that follows it."""
    return takewhile(lambda box: is_box_type(box.kind), boxes(read, start, end))


def is_box_type(kind: bytes) -> bool:
    """Return whether four bytes can be the type of a box: letters, or a copyright sign in old ones."""
    return len(kind) == 4 and all(0x20 <= letter < 0x7F or letter == 0xA9 for letter in kind)


def find(read: Read, start: int, end: int, *path: bytes) -> IsoBox | None:
    """Return the first box at a path of types."""
    found: IsoBox | None = None
    for kind in path:
        found = next((box for box in boxes(read, start, end) if box.kind == kind), None)
        if found is None:
            return None
        start, end = found.body, found.end
    return found


def shows_film(read: Read, movie: IsoBox) -> bool:
    """Return whether a `moov` box has, or may have, a track of pictures."""
    return picture_tracks(read, movie) > 0 or find(read, movie.body, movie.end, b"cmov") is not None


def picture_tracks(read: Read, movie: IsoBox) -> int:
    """Return how many tracks of a `moov` box have, or may have, pictures."""
    tracks: dict[int, set[bytes]] = {}
    for track, _, kind in _handlers(read, movie):
        tracks.setdefault(track, set()).add(kind)
    return sum(bool(kinds - _WITHOUT_PICTURES) for kinds in tracks.values())


def plays_as_avif(read: Read, movie: IsoBox) -> bool:
    """Return whether the one track of pictures in a `moov` box is coded as an AVIF's sequences are."""
    codes: list[bytes] = []
    for track in boxes(read, movie.body, movie.end):
        entries = find(read, track.body, track.end, b"mdia", b"minf", b"stbl", b"stsd")
        if entries is not None:
            codes += [box.kind for box in boxes(read, entries.body + 8, entries.end)]
    only_one = picture_tracks(read, movie) == len(handler_spots(read, movie)) == 1
    return only_one and codes == [b"av01"] * len(codes)


def handler_spots(read: Read, movie: IsoBox) -> list[int]:
    """Return where the handlers of a movie's tracks of still pictures (`pict`) are written."""
    return [at for _, at, kind in _handlers(read, movie) if kind == b"pict"]


def _handlers(read: Read, movie: IsoBox) -> Iterator[tuple[int, int, bytes]]:
    """Yield (start of the track, where its handler is written, handler); an empty one for a track without."""
    for track in boxes(read, movie.body, movie.end):
        if track.kind != b"trak":
            continue
        media = [box for box in boxes(read, track.body, track.end) if box.kind == b"mdia"]
        spots = [
            box.body + 8 for one in media for box in boxes(read, one.body, one.end) if box.kind == b"hdlr"
        ]
        yield from ((track.start, at, read(at, 4)) for at in spots)
        if not spots:
            yield track.start, 0, b""


def read_items(read: Read, meta: IsoBox) -> HeifItems | None:
    """Return the pictures of a `meta` box, None if it has no primary one."""
    data = read(meta.start, min(meta.end - meta.start, _MAX_META_BYTES))
    reader = _MetaReader(data, meta.start)
    found = list(boxes(reader.read, meta.body + 4 - meta.start, len(data)))
    inner = {box.kind: box for box in reversed(found)}
    primary, infos = inner.get(b"pitm"), inner.get(b"iinf")
    if primary is None or infos is None:
        return None
    width = 4 if reader.number(primary.body, 1) else 2
    places = reader.places(inner[b"iloc"]) if b"iloc" in inner else {}
    listed = list(reader.items(infos, places))
    items = {item.id: item for item in reversed(listed)}
    references = tuple(reader.references(inner[b"iref"])) if b"iref" in inner else ()
    is_short = meta.start + len(data) < meta.end or reader.is_short
    is_twice = len(items) < len(listed) or sum(box.kind in _META_BOXES for box in found) > len(
        _META_BOXES & inner.keys()
    )
    return HeifItems(
        primary=reader.number(primary.body + 4, width),
        primary_at=(meta.start + primary.body + 4, width),
        items=items,
        references=references,
        incomplete=is_short or is_twice or not all(item.is_known for item in listed),
    )


class _MetaReader:
    """Reads the boxes inside a `meta` box; `base` is where it lies in the file.

    Attributes:
        is_short: it held more than was read.
    """

    def __init__(self, data: bytes, base: int) -> None:
        self._data, self._base = data, base
        self.is_short = False

    def read(self, at: int, count: int) -> bytes:
        return self._data[at : at + count]

    def number(self, at: int, width: int) -> int:
        return int.from_bytes(self._data[at : at + width], "big")

    def _first(self, start: int, end: int) -> Iterator[IsoBox]:
        for number, box in enumerate(boxes(self.read, start, end)):
            if number == _MAX_ITEMS:
                self.is_short = True
                return
            yield box

    def items(self, box: IsoBox, places: dict[int, tuple[Span, ...]]) -> Iterator[HeifItem]:
        """Yield the items of an `iinf` box (8.11.6)."""
        start = box.body + (8 if self.number(box.body, 1) else 6)
        for entry in self._first(start, box.end):
            if entry.kind != b"infe" or entry.end - entry.body < 12:
                continue
            version, at = self.number(entry.body, 1), entry.body + 4
            if version < 2:
                continue
            width = 2 if version == 2 else 4
            number = self.number(at, width)
            kind = self.read(at + width + 2, 4)
            flag = entry.body + 3
            hidden = bool(self.number(flag, 1) & 1)
            yield HeifItem(number, kind, hidden, self._base + flag, places.get(number, ()))

    def references(self, box: IsoBox) -> Iterator[ItemReference]:
        """Yield the references of an `iref` box (8.11.12)."""
        width = 4 if self.number(box.body, 1) else 2
        for one in self._first(box.body + 4, box.end):
            count = min(self.number(one.body + width, 2), (one.end - one.body) // width)
            first = one.body + width + 2
            targets = tuple(self.number(first + width * each, width) for each in range(count))
            yield ItemReference(one.kind, self._base + one.start + 4, self.number(one.body, width), targets)

    def places(self, box: IsoBox) -> dict[int, tuple[Span, ...]]:
        """Return where each item of an `iloc` box lies in the file (8.11.3)."""
        version, at = self.number(box.body, 1), box.body + 4
        offset_bytes, length_bytes = divmod(self.number(at, 1), 16)
        base_bytes, index_bytes = divmod(self.number(at + 1, 1), 16)
        index_bytes = index_bytes if version in {1, 2} else 0
        wide = 4 if version == 2 else 2
        count, at = self.number(at + 2, wide), at + 2 + wide
        found: dict[int, tuple[Span, ...]] = {}
        self.is_short = self.is_short or count > _MAX_ITEMS
        for _ in range(min(count, _MAX_ITEMS)):
            number, at = self.number(at, wide), at + wide
            method = self.number(at, 2) & 15 if version in {1, 2} else 0
            at += 4 if version in {1, 2} else 2
            base, at = self.number(at, base_bytes), at + base_bytes
            extents, at = self.number(at, 2), at + 2
            spans: list[Span] = []
            if extents > _MAX_EXTENTS:
                self.is_short = True
                return found
            for _ in range(extents):
                start = base + self.number(at + index_bytes, offset_bytes)
                length = self.number(at + index_bytes + offset_bytes, length_bytes)
                at += index_bytes + offset_bytes + length_bytes
                if at > box.end:
                    return found
                spans.append((start, start + length))
            if method == 0:
                found[number] = tuple(spans)
        return found


def shows_something(read: Read, length: int) -> bool:
    """Return whether a file has, or may have, pictures; False for one with tracks of sound only."""
    movies, items = _films_and_items(read, length)
    return not movies or any(shows_film(read, one) for one in movies) or bool(items)


def iso_format(known: Format | None, read: Read, length: int) -> Format | None:
    """Return what a file that begins with a `ftyp` box is, by its tracks and pictures.

    Args:
        known: what it is by its brand, None for sound.
        read: reads the file.
        length: of the file.
    """
    movies, items = _films_and_items(read, length)
    formats = (BY_NAME.get(one.format_of(one.primary) or "") for one in items)
    picture = next(filter(None, formats), None)
    movie = next((one for one in movies if shows_film(read, one)), None)
    if known is not None and known.kind == "picture":
        sequence = known.name == "AVIF" and read(8, 4) == b"avis"
        if movie is None or (sequence and plays_as_avif(read, movie)):
            return known
        return BY_NAME["MP4"] if sequence or picture is None else known
    if movie is not None or picture is None:
        return known or (BY_NAME["MP4"] if movie is not None else None)
    return picture


def _films_and_items(read: Read, length: int) -> tuple[list[IsoBox], list[HeifItems]]:
    """Return (the `moov` boxes of a file, the pictures of each of its `meta` boxes that has some)."""
    top = list(top_boxes(read, 0, length))
    found = [read_items(read, box) for box in top if box.kind == b"meta"]
    return [box for box in top if box.kind == b"moov"], [one for one in found if one is not None]
