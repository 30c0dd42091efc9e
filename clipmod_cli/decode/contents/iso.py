"""The layout of ISO base media files: their boxes, and the further pictures and films that these describe."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from clipmod_cli.decode.contents.cropping import cuts_iso_pictures
from clipmod_cli.decode.contents.parts import Layout, Part, Role
from clipmod_cli.decode.contents.tiff import gaps
from clipmod_cli.decode.formats import Format
from clipmod_cli.decode.reading.boxes import (
    BY_NAME,
    CODED_ITEMS,
    DERIVED_ITEMS,
    HeifItem,
    HeifItems,
    IsoBox,
    Read,
    Span,
    handler_spots,
    plays_as_avif,
    read_items,
    shows_film,
    top_boxes,
)

_PIXELS = frozenset({b"mdat", b"moof"})
"""Boxes of frames, and of what is needed for each."""

_LEAST_GAP = 16
"""Bytes between two items that are alignment at most."""

_MAX_PICTURES = 256
"""Of a file; more are unread anyhow."""

_MAJOR_BRAND = 8
_KIND = 4
"""Where the brand is in the file, and the type in a box."""

_BRANDS = {"AVIF": b"avif", "HEIF": b"heic", "MP4": b"isom"}


def iso_layout(read: Read, length: int, known: Format) -> Layout:
    """Return the layout of a file whose own picture or film is decoded as `known`."""
    top: list[IsoBox] = []
    for box in top_boxes(read, 0, length):
        if box.kind == b"ftyp" and top:
            break  # a second file
        top.append(box)
    movies = [box for box in top if box.kind == b"moov"]
    metas = [(box, read_items(read, box)) for box in top if box.kind == b"meta"]
    meta, items = next((pair for pair in metas if pair[1] is not None), (None, None))
    film = next((box for box in movies if shows_film(read, box)), None)
    hidden = [(box.body, box.end) for box in top if box.kind not in _PIXELS]
    parts: list[Part] = []
    by_plugin = known.name == "AVIF" and read(_MAJOR_BRAND, 4) == b"avis"
    by_track = known.kind == "video" or (by_plugin and film is not None and plays_as_avif(read, film))
    if items is not None and meta is not None:
        erased = {box.start + _KIND: b"free" for box in movies}
        found = _pictures(read, length, items, erased, everything=by_track and film is not None)
        parts += islice(found, _MAX_PICTURES)
        if not movies:
            hidden += _beside_items(top, items)
    if film is not None and not by_track:
        parts.append(_film(read, length, film, meta))
    unread = len(movies) > 1 or (items is not None and (len(metas) > 1 or items.incomplete))
    return Layout(
        end=top[-1].end if top else length,
        hidden=tuple(hidden),
        parts=tuple(parts),
        unread=unread or cuts_iso_pictures(read, top),
    )


def _pictures(
    read: Read, length: int, items: HeifItems, erased: dict[int, bytes], *, everything: bool
) -> Iterator[Part]:
    """Yield the pictures beside the primary one, or `everything`: copies of the file with each as primary."""
    tiles = {
        target
        for one in items.references
        if one.kind == b"dimg" and one.source in items.items and items.items[one.source].kind in DERIVED_ITEMS
        for target in one.targets
    }
    for item in items.items.values():
        if not item.is_picture or (item.hidden and item.id in tiles):
            continue
        if item.id == items.primary:
            if everything:
                yield _picture(read, length, items, item, erased, role="preview")
            continue
        yield _picture(read, length, items, item, erased, role=_role(items, item))


def _role(items: HeifItems, item: HeifItem) -> Role | None:
    for one in items.references:
        if one.source == item.id and one.kind == b"thmb":
            return "preview"
        if one.source == item.id and one.kind == b"auxl":
            return "map"
        source = items.items.get(one.source)
        if one.kind == b"dimg" and item.id in one.targets and source is not None and source.kind == b"tmap":
            return "map"
    return None


def _picture(
    read: Read, length: int, items: HeifItems, item: HeifItem, erased: dict[int, bytes], *, role: Role | None
) -> Part:
    name = items.format_of(item.id) or "HEIF"
    at, width = items.primary_at
    patches = {**erased, at: item.id.to_bytes(width, "big"), **_as_still(read, name)}
    patches |= {
        one.at: b"skip"
        for one in items.references
        if one.source == item.id and one.kind in {b"thmb", b"auxl", b"cdsc"}
    }
    if item.hidden:
        patches[item.flag_at] = bytes((read(item.flag_at, 1)[0] & ~1,))
    return Part(offset=0, length=length, format=BY_NAME[name], role=role, patches=tuple(patches.items()))


def _as_still(read: Read, name: str) -> dict[int, bytes]:
    """Return the patches of the brands of a file whose tracks are erased: no sequence is left in it."""
    end = int.from_bytes(read(0, 4), "big")
    others = range(_MAJOR_BRAND + 8, min(end, 1024) - 3, 4)
    return {_MAJOR_BRAND: _BRANDS[name]} | {
        at: _BRANDS[name] for at in others if read(at, 4) not in {b"mif1", b"miaf", _BRANDS[name]}
    }


def _film(read: Read, length: int, movie: IsoBox, meta: IsoBox | None) -> Part:
    """Return the tracks of a file that is a picture by its brand, as a film."""
    patches = [(_MAJOR_BRAND, _BRANDS["MP4"]), *((at, b"vide") for at in handler_spots(read, movie))]
    if meta is not None:
        patches.append((meta.start + _KIND, b"free"))
    return Part(offset=0, length=length, format=BY_NAME["MP4"], patches=tuple(patches))


def _beside_items(top: list[IsoBox], items: HeifItems) -> Iterator[Span]:
    """Yield the data of items that are no pictures, and what is in no item."""
    for item in items.items.values():
        if item.kind not in CODED_ITEMS:
            yield from item.spans
    used = [span for item in items.items.values() for span in item.spans]
    for box in top:
        if box.kind == b"mdat":
            yield from ((a, b) for a, b in gaps(used, box.body, box.end) if b - a > _LEAST_GAP)
