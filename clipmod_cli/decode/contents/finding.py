"""Finds everything in a file that a person could see beside its own picture or film.

The file's own structure says where it ends and what of it holds no pixels. That, and the bytes behind the
end, are searched for signatures of pictures, films and archives; parts are searched in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

from clipmod_cli.decode.contents.chunks import bmp_layout, gif_layout, png_layout, webp_layout
from clipmod_cli.decode.contents.films import asf_layout, avi_layout, matroska_layout, whole_layout
from clipmod_cli.decode.contents.iso import iso_layout
from clipmod_cli.decode.contents.jpeg import is_torn_jpeg, jpeg_layout
from clipmod_cli.decode.contents.parts import Contents, Layout, Part, Role
from clipmod_cli.decode.contents.search import films_within, holds_archive, is_unexplained, search
from clipmod_cli.decode.contents.tiff import tiff_layout
from clipmod_cli.decode.formats import Format
from clipmod_cli.decode.reading.boxes import Read, iso_format, shows_something
from clipmod_cli.decode.reading.zips import is_zip

MAX_PARTS = 64
"""Further pictures and films of a file that are decoded; a camera's burst has fewer."""

MAX_SEARCHED_BYTES = 64_000_000
"""Of a file; what lies behind a film can be as long as another film."""

MAX_HIDDEN = 4096
"""Spans of a file's structure that are searched."""

_LEAST_BYTES = 64
"""Of a picture; the shortest PNG has 67."""

_OVERLAP_BYTES = 64
"""The last bytes of a structure can be the first ones of another: a checksum that no decoder reads."""

_MAX_DEPTH = 3
"""A part of a part of a part is searched no further."""

_STILLS: dict[str, Callable[[bytes], Layout]] = {
    "JPEG": jpeg_layout,
    "PNG": png_layout,
    "WEBP": webp_layout,
    "GIF": gif_layout,
    "BMP": bmp_layout,
    "TIFF": tiff_layout,
}

_FILMS: dict[str, Callable[[Read, int], Layout]] = {
    "MATROSKA": matroska_layout,
    "AVI": avi_layout,
    "ASF": asf_layout,
}

_ISO = frozenset({"HEIF", "AVIF", "MP4", "MOV"})


def find_contents(data: bytes, known: Format) -> Contents:
    """Return what a file of the format holds beside its own picture or film."""
    return _find(_reader(data), len(data), known, data=data, depth=0)


def find_film_contents(read: Read, length: int, known: Format) -> Contents:
    """Return what a film that is too long to hold holds beside itself."""
    return _find(read, length, known, data=None, depth=0)


def _find(read: Read, length: int, known: Format, *, data: bytes | None, depth: int) -> Contents:
    layout = _layout(read, length, known, data)
    parts = list(islice(layout.parts, MAX_PARTS + 1))
    unread = layout.unread or len(parts) > MAX_PARTS or (depth == 0 and is_zip(read, length))
    left = MAX_SEARCHED_BYTES
    hidden = [span for span in layout.hidden if span[1] - span[0] >= _LEAST_BYTES]
    unread = unread or len(hidden) > MAX_HIDDEN
    for start, end in hidden[:MAX_HIDDEN]:
        span = read(start, max(min(end - start, left), 0))
        found, more = search(span, everywhere=False)
        parts += [_declared(part.within(start), "preview") for part in found]
        unread = unread or more or len(span) < min(end, length) - start or holds_archive(span)
        unread = unread or any(is_torn_jpeg(span, part) for part in found)
        left -= len(span)
    if layout.end < length:
        start = max(layout.end - _OVERLAP_BYTES, 1)
        trailing = read(start, left)
        found, more = search(trailing, everywhere=True)
        roles = dict(layout.roles)
        places = [part.within(start) for part in found]
        parts += [_declared(place, roles.get(place.offset, layout.trailing_role)) for place in places]
        unread = unread or more or len(trailing) < length - start
        unread = unread or is_unexplained(trailing, found, layout.end - start)
    if depth and data is not None and known.kind == "video":
        parts += films_within(data)
    return _with_inner(read, parts, depth, unread=unread)


def _declared(part: Part, role: Role | None) -> Part:
    """Return the part with the role of its place, if it is a picture and has not declared one itself."""
    return replace(part, role=part.role or role) if part.format.kind == "picture" else part


def _with_inner(read: Read, parts: list[Part], depth: int, *, unread: bool) -> Contents:
    """Return the parts that show something, with the parts that are found in them."""
    distinct = {(part.offset, part.format.name, part.patches): part for part in reversed(parts)}
    unread = unread or len(distinct) > MAX_PARTS
    found: list[Part] = []
    for part in list(reversed(distinct.values()))[:MAX_PARTS]:
        if part.patches or part.format.kind == "archive":
            found.append(part)
            continue
        data = part.read_from(read)
        known = _known_by_tracks(data, part.format)
        if known is None:
            continue
        found.append(replace(part, format=known))
        if depth < _MAX_DEPTH:
            inner = _find(_reader(data), len(data), known, data=data, depth=depth + 1)
            found += [one.within(part.offset) for one in inner.parts]
            unread = unread or inner.unread
    return Contents(parts=tuple(found[:MAX_PARTS]), unread=unread or len(found) > MAX_PARTS)


def _known_by_tracks(data: bytes, known: Format) -> Format | None:
    """Return the format of a part, None for a film without pictures: sound."""
    if known.name not in _ISO:
        return known
    return iso_format(known, _reader(data), len(data)) if shows_something(_reader(data), len(data)) else None


def _layout(read: Read, length: int, known: Format, data: bytes | None) -> Layout:
    if known.name in _ISO:
        return iso_layout(read, length, known)
    if data is not None and known.name in _STILLS:
        return _STILLS[known.name](data)
    return _FILMS.get(known.name, whole_layout)(read, length)


def _reader(data: bytes) -> Read:
    return lambda at, count: data[at : at + count]
