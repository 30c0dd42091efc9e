"""Whether a container cuts its pictures: some viewers show all of them, some only the part that is left.

Not a little: that is cut of many files, whose coded size is a multiple of 8.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

from clipmod_cli.decode.reading.boxes import IsoBox, Read, boxes, find
from clipmod_cli.decode.stills.colour_spaces import associations

_LEAST_SHARE = 0.9
"""Of the pixels, that is left where nothing visible is cut."""

_PADDING = 8
"""Pixels on a side that are cut from small pictures, whose coded size is the next multiple."""

_ENTRY_BYTES = 78
"""Of the description of a track's pictures, before its boxes; its width and height stand at 24."""

_MAX_META_BYTES = 1 << 24


def is_cut(size: tuple[int, int], left: tuple[float, float]) -> bool:
    """Return whether what is `left` of a picture is so much smaller than its `size` that it can be seen."""
    spare = max(whole - part for whole, part in zip(size, left, strict=True))
    return spare > _PADDING and math.prod(left) < _LEAST_SHARE * math.prod(size)


def cuts_iso_pictures(read: Read, top: Iterable[IsoBox]) -> bool:
    """Return whether the clean aperture of an item or a track in these top-level boxes cuts it visibly."""
    for box in top:
        found = (
            _items(read, box) if box.kind == b"meta" else _tracks(read, box) if box.kind == b"moov" else ()
        )
        if any(is_cut(size, left) for size, left in found):
            return True
    return False


def _items(read: Read, meta: IsoBox) -> Iterator[tuple[tuple[int, int], tuple[float, float]]]:
    """Yield (size, what is left of it) of the items that have both (ISO/IEC 23008-12, 6.5.3 and 6.5.9)."""
    if meta.end - meta.start > _MAX_META_BYTES:
        return
    container = find(read, meta.body + 4, meta.end, b"iprp")
    listed = container and find(read, container.body, container.end, b"ipco")
    if not container or not listed:
        return
    properties = list(boxes(read, listed.body, listed.end))
    sizes: dict[int, tuple[int, int]] = {}
    apertures: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for links in boxes(read, container.body, container.end):
        for item, index in (
            associations(read(links.body, links.end - links.body)) if links.kind == b"ipma" else ()
        ):
            one = properties[index - 1] if 0 < index <= len(properties) else None
            if one is not None and one.kind == b"ispe":
                sizes[item] = _number(read, one.body + 4), _number(read, one.body + 8)
            elif one is not None and one.kind == b"clap":
                apertures[item].append(_aperture(read, one))
    for item, found in apertures.items():
        yield from ((sizes[item], left) for left in found if item in sizes)


def _tracks(read: Read, movie: IsoBox) -> Iterator[tuple[tuple[int, int], tuple[float, float]]]:
    """Yield (size, what is left of it) of the tracks that have an aperture (ISO/IEC 14496-12, 12.1.4)."""
    for track in boxes(read, movie.body, movie.end):
        entries = find(read, track.body, track.end, b"mdia", b"minf", b"stbl", b"stsd")
        for entry in boxes(read, entries.body + 8, entries.end) if entries is not None else ():
            size = _number(read, entry.body + 24, 2), _number(read, entry.body + 26, 2)
            for one in boxes(read, entry.body + _ENTRY_BYTES, entry.end):
                if one.kind == b"clap":
                    yield size, _aperture(read, one)


def _aperture(read: Read, box: IsoBox) -> tuple[float, float]:
    """Return (width, height) of an aperture: two fractions; 0 where one is none."""
    width, wide, height, high = (_number(read, box.body + at) for at in (0, 4, 8, 12))
    return width / wide if wide else 0.0, height / high if high else 0.0


def _number(read: Read, at: int, width: int = 4) -> int:
    return int.from_bytes(read(at, width), "big")
