"""AVIF and HEIF stills: the items of the picture that is shown; all else is zeros in its place.

Nothing moves, so that every offset stays right. A sequence, whose samples are found otherwise, is refused.
"""

from __future__ import annotations

from typing import Final

from clipmod_cli.decode.contents.tiff import gaps
from clipmod_cli.decode.reading.boxes import HeifItems, IsoBox, boxes, find, read_items, top_boxes
from clipmod_cli.server.hosting.metadata.errors import UnstrippableError, limited

_SHOWN: Final = frozenset({b"ftyp", b"meta", b"mdat"})
_META_SHOWN: Final = frozenset(
    {b"hdlr", b"pitm", b"iloc", b"iinf", b"iref", b"iprp", b"idat", b"grpl", b"dinf"}
)
_PROPERTIES_SHOWN: Final = frozenset(
    {
        b"ispe", b"pixi", b"colr", b"pasp", b"clap", b"irot", b"imir", b"auxC", b"lsel", b"rloc",
        b"av1C", b"hvcC", b"avcC", b"vvcC", b"jpgC", b"j2kH", b"a1op", b"a1lx", b"clli", b"mdcv",
        b"cclv", b"amve",
    }
)  # fmt: skip
"""Sizes, colours, turns and codes of items; not texts about them."""

_MOST_BOXES: Final = 64
_MOST_STEPS: Final = 8
"""Boxes of a file, and references from an item to the last one that it is shown by, which real files have."""

_FREE: Final = b"free"
_HANDLER_NAME: Final = 24
"""Where in the body of a `hdlr` box its name begins."""


def strip_iso(data: bytes) -> bytes:
    """Return a file of the primary item, what it is put together from, and its auxiliary items (alpha).

    Raises:
        UnstrippableError: it is a sequence, cut off, or has items of unknown kinds.
    """
    return _Blanker(data).run()


class _Blanker:
    """Blanks what is not shown in a copy of a file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._out = bytearray(data)

    def _read(self, at: int, count: int) -> bytes:
        return self._data[at : at + count]

    def run(self) -> bytes:
        top = list(top_boxes(self._read, 0, len(self._data)))
        while top and top[-1].kind not in _SHOWN:  # trailing bytes may look like a box
            top.pop()
        items = self._items(top)
        shown = shown_items(items)
        spans = sorted(limited(span for one in shown for span in items.items[one].spans))
        media = [(box.body, box.end) for box in top if box.kind == b"mdat"]
        placed = all(any(start >= at and end <= close for at, close in media) for start, end in spans)
        if self._is_cut(top[-1]) or not placed:
            raise UnstrippableError("the file is damaged")
        for box in top:
            if box.kind == b"mdat":
                for start, end in gaps(spans, box.body, box.end):
                    self._zero(start, end)
            elif box.kind == b"meta":
                self._meta(box, items, shown)
            elif box.kind != b"ftyp" or box.start:
                self._free(box)
        return bytes(self._out[: top[-1].end])

    def _items(self, top: list[IsoBox]) -> HeifItems:
        metas = [box for box in limited(top, _MOST_BOXES) if box.kind == b"meta"]
        if len(metas) != 1 or any(box.kind in {b"moov", b"moof"} for box in top):
            raise UnstrippableError("it is a sequence, or holds no picture")
        items = read_items(self._read, metas[0])
        if items is None or items.incomplete:
            raise UnstrippableError("it holds items of unknown kinds")
        return items

    def _meta(self, meta: IsoBox, items: HeifItems, shown: set[int]) -> None:
        inside = list(boxes(self._read, meta.body + 4, meta.end))
        unplaced = any(not one.spans for one in items.items.values() if one.id not in shown)
        if unplaced and any(box.kind == b"idat" for box in inside):
            raise UnstrippableError("some of its metadata cannot be found")
        for box in inside:
            if box.kind not in _META_SHOWN:
                self._free(box)
            elif box.kind == b"hdlr":
                self._zero(box.body + _HANDLER_NAME, box.end)
            elif box.kind == b"iinf":
                self._infos(box, shown)
            elif box.kind == b"iprp":
                self._properties(box)

    def _infos(self, infos: IsoBox, shown: set[int]) -> None:
        """Blank the names of items, and make those that are not shown of no kind."""
        start = infos.body + (8 if self._data[infos.body] else 6)
        for entry in boxes(self._read, start, infos.end):
            width = 2 if self._data[entry.body] == 2 else 4
            at = entry.body + 4
            number, kind = int.from_bytes(self._read(at, width), "big"), at + width + 2
            if number not in shown:
                self._out[kind : kind + 4] = _FREE
            self._zero(kind + 4, entry.end)

    def _properties(self, box: IsoBox) -> None:
        listed = find(self._read, box.body, box.end, b"ipco")
        if listed is None:
            raise UnstrippableError("its items have no properties")
        for one in boxes(self._read, listed.body, listed.end):
            if one.kind not in _PROPERTIES_SHOWN:
                self._free(one)

    def _free(self, box: IsoBox) -> None:
        self._out[box.start + 4 : box.start + 8] = _FREE
        self._zero(box.body, box.end)

    def _zero(self, start: int, end: int) -> None:
        if end > start:
            self._out[start:end] = bytes(end - start)

    def _is_cut(self, last: IsoBox) -> bool:
        size = int.from_bytes(self._read(last.start, 4), "big")
        size = int.from_bytes(self._read(last.start + 8, 8), "big") if size == 1 else size
        return last.start + size > len(self._data)


def shown_items(items: HeifItems) -> set[int]:
    """Return the numbers of the items that the primary one is shown by: its tiles, alpha and gain map."""
    shown = {items.primary}
    for _ in range(_MOST_STEPS):
        more: set[int] = set()
        for one in items.references:
            source = items.items.get(one.source)
            maps = source is not None and source.kind == b"tmap" and not shown.isdisjoint(one.targets)
            if one.kind == b"dimg" and (one.source in shown or maps):
                more |= {one.source, *one.targets}
            elif one.kind == b"auxl" and not shown.isdisjoint(one.targets):
                more.add(one.source)
        if more <= shown:
            return shown & items.items.keys()
        shown |= more
    raise UnstrippableError("its items refer to too many others")
