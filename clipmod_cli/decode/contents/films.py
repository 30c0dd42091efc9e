"""The layouts of films: where each ends, and what of it holds no pictures of the film.

Read by offset, since films are long. Containers whose pieces are walked to the file's end (FLV, MPEG, Ogg)
have no trailing bytes: anything there is damage.
"""

from __future__ import annotations

from collections.abc import Iterator

from clipmod_cli.decode.contents.cropping import is_cut
from clipmod_cli.decode.contents.parts import Layout, Part
from clipmod_cli.decode.formats import ASF_DATA, HEAD_BYTES, sniff
from clipmod_cli.decode.reading.boxes import Read, Span

_MAX_ELEMENTS = 1_000_000
"""That are walked in a Matroska file; a live one of hours has fewer blocks."""

_EBML, _SEGMENT, _CLUSTER, _VOID = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xEC
_TRACKS, _TRACK, _VIDEO, _WIDTH, _HEIGHT = 0x1654AE6B, 0xAE, 0xE0, 0xB0, 0xBA
_TRACK_TYPE, _CODEC = 0x83, 0x86
_PICTURES = 1
"""The type of a track of pictures (RFC 9559, 27.6)."""

_ACROSS, _DOWN = (0x54CC, 0x54DD), (0x54BB, 0x54AA)
"""What is cut from the left and right, and from the top and bottom, in pixels."""

_ATTACHMENTS, _ATTACHED_FILE, _FILE_DATA = 0x1941A469, 0x61A7, 0x465C


def matroska_layout(read: Read, length: int) -> Layout:
    """Return the layout of a Matroska file, with its attachments as parts, whatever type they declare."""
    at, end, segment = 0, 0, False
    hidden: list[Span] = []
    parts: list[Part] = []
    unread = False
    for _ in range(_MAX_ELEMENTS):
        ident, body, size = _element(read, at)
        outside = end and at >= end and ident != _VOID
        if not ident or at >= length or outside or (segment and ident in {_EBML, _SEGMENT}):
            unread = unread or (segment and ident == _SEGMENT)
            return Layout(end=min(at, length), hidden=tuple(hidden), parts=tuple(parts), unread=unread)
        if ident == _SEGMENT:
            segment, end = True, length if size is None else body + size
        if ident == _SEGMENT or size is None:  # a live stream's clusters do not say their length either
            at = body
            continue
        at = body + size
        if ident != _CLUSTER:
            hidden.append((body, min(at, length)))
        if ident == _TRACKS:
            unread = unread or _cuts_pictures(read, body, min(at, length))
            unread = unread or _denies_pictures(read, body, min(at, length))
        if ident == _ATTACHMENTS:
            found, archives = _attachments(read, body, min(at, length))
            parts += found
            unread = unread or archives
    return Layout(end=length, hidden=tuple(hidden), parts=tuple(parts), unread=True)


def _cuts_pictures(read: Read, start: int, end: int) -> bool:
    """Return whether a track's pictures are visibly cut for display (RFC 9559, 5.1.4.1.28.8 to 11)."""
    for entry, first, last in _children(read, start, end):
        for kind, body, close in _children(read, first, last) if entry == _TRACK else ():
            fields = _children(read, body, close) if kind == _VIDEO else ()
            values = {one: int.from_bytes(read(at, min(stop - at, 8)), "big") for one, at, stop in fields}
            width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
            left = width - sum(values.get(side, 0) for side in _ACROSS)
            if is_cut((width, height), (left, height - sum(values.get(side, 0) for side in _DOWN))):
                return True
    return False


def _denies_pictures(read: Read, start: int, end: int) -> bool:
    """Return whether a track of another type has a codec of pictures: FFmpeg does not decode it."""
    for entry, first, last in _children(read, start, end):
        if entry == _TRACK:
            fields = {one: read(at, min(stop - at, 8)) for one, at, stop in _children(read, first, last)}
            is_coded = fields.get(_CODEC, b"").startswith(b"V_")
            if is_coded and int.from_bytes(fields.get(_TRACK_TYPE, b""), "big") != _PICTURES:
                return True
    return False


def _attachments(read: Read, start: int, end: int) -> tuple[list[Part], bool]:
    """Return (the attached files that are pictures or films, whether there is an archive among them)."""
    parts: list[Part] = []
    archives = False
    for ident, first, last in _children(read, start, end):
        for inner, body, close in _children(read, first, last) if ident == _ATTACHED_FILE else ():
            known = sniff(read(body, min(HEAD_BYTES, close - body))) if inner == _FILE_DATA else None
            if known is not None and known.kind == "archive":
                archives = True
            elif known is not None and close > body:
                parts.append(Part(offset=body, length=close - body, format=known))
    return parts, archives


def _children(read: Read, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    while start < end:
        ident, body, size = _element(read, start)
        if not ident:
            return
        close = end if size is None else min(body + size, end)
        yield ident, body, close
        start = close


def _element(read: Read, at: int) -> tuple[int, int, int | None]:
    """Return an element's (ID or 0, start of its body, size or None where it is unknown) (RFC 8794, 4-6)."""
    head = read(at, 12)
    wide = 9 - head[0].bit_length() if head else 0
    if not 1 <= wide <= 4 or len(head) <= wide or not head[wide]:
        return 0, at, None
    ident, rest = int.from_bytes(head[:wide], "big"), head[wide:]
    long = 9 - rest[0].bit_length()
    size = int.from_bytes(rest[:long], "big") - (1 << 7 * long)
    return ident, at + wide + long, None if size == (1 << 7 * long) - 1 else size


def avi_layout(read: Read, length: int) -> Layout:
    """Return the layout of an AVI: a RIFF list, and those that continue it where it is long."""
    at = 0
    while at < length:
        head = read(at, 12)
        if head[:4] != b"RIFF" or head[8:] != (b"AVIX" if at else b"AVI "):
            break
        size = int.from_bytes(head[4:8], "little")
        at += 8 + size + (size & 1)
    return Layout(end=min(at, length))


_ASF_OBJECTS = {ASF_DATA} | frozenset(
    bytes.fromhex(guid)
    for guid in (
        "3026b2758e66cf11a6d900aa0062ce6c",  # header
        "90080033b1e5cf1189f400a0c90349cb",  # simple index
        "d329e2d6da35d111903400a0c90349be",  # index
        "f803b1fead12644c840f2a1d2f7ad48c",  # media object index
        "d03fb73c4a0c0348953dedf7b6228f0c",  # timecode index
    )
)


def asf_layout(read: Read, length: int) -> Layout:
    """Return the layout of an ASF: objects one after the other (ASF specification 1.20.03, 2)."""
    at = 0
    hidden: list[Span] = []
    while at < length:
        head = read(at, 24)
        size = int.from_bytes(head[16:24], "little")
        if head[:16] not in _ASF_OBJECTS or size < len(head):
            break
        if head[:16] != ASF_DATA:
            hidden.append((at + len(head), min(at + size, length)))
        at += size
    return Layout(end=min(at, length) if at else length, hidden=tuple(hidden))


def whole_layout(_read: Read, length: int) -> Layout:
    """Return the layout of a container that is walked to the end of the file elsewhere."""
    return Layout(end=length)
