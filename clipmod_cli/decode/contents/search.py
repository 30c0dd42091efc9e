"""Searches bytes of any origin for pictures, films and archives, at any offset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clipmod_cli.decode.contents.chunks import gif_end
from clipmod_cli.decode.contents.films import asf_layout, matroska_layout
from clipmod_cli.decode.contents.jpeg import declares_map, jpeg_end
from clipmod_cli.decode.contents.parts import Part, Role
from clipmod_cli.decode.contents.tiff import gaps, has_picture
from clipmod_cli.decode.formats import sniff
from clipmod_cli.decode.reading.boxes import BY_NAME, Read, top_boxes
from clipmod_cli.decode.stills.mending import png_chunks

MAX_CANDIDATES = 256
"""Signatures that are followed up in one search; random bytes have few."""

MAX_UNEXPLAINED_BYTES = 4096
"""Of trailing bytes that are neither zero nor part of what was found: notes of the camera are shorter."""

_FILM_BOXES = frozenset(
    b"ftyp moov mdat moof mfra sidx styp ssix prft wide free skip meta uuid mpvd pdin emsg".split()
)
"""Top-level boxes of a film or HEIF; at any other one a trailer of the camera begins."""

_MAX_FTYP_BYTES = 4096

_ARCHIVES = (b"PK\x05\x06", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c")
_DOCUMENTS = (b"%PDF-", b"<svg", b"\r\n\x87\n", b"8BPS\0")
"""Pictures that are not decoded: PDF, SVG, JPEG XL and JPEG 2000, PSD."""


@dataclass(frozen=True, slots=True)
class _Signature:
    """How a file begins: `needle`, which stands `back` bytes after its begin.

    `end` returns where a file that begins at an offset ends, None if there is none.
    """

    needle: bytes
    end: Callable[[bytes, int], int | None]
    back: int = 0


def search(data: bytes, *, everywhere: bool) -> tuple[list[Part], bool]:
    """Return (the pictures and films in `data`, whether there was too much to follow up).

    With `everywhere` also of formats with short signatures, which metadata contain for other reasons.
    """
    signatures = (*_MEDIA, *_MORE_MEDIA) if everywhere else _MEDIA
    hits = [data.find(one.needle) for one in signatures]
    parts: list[Part] = []
    at = 0
    for _ in range(MAX_CANDIDATES):
        first = min((hit for hit in hits if hit >= 0), default=None)
        if first is None:
            return parts, False
        signature = signatures[hits.index(first)]
        start = first - signature.back
        part = _part_at(data, start, signature) if start >= at else None
        if part is not None:
            parts.append(part)
            at = max(part.end, first + 1)
        else:
            at = first + 1
        for number, one in enumerate(signatures):
            if 0 <= hits[number] < at:
                hits[number] = data.find(one.needle, at)
    return parts, True


def _part_at(data: bytes, start: int, signature: _Signature) -> Part | None:
    end = signature.end(data, start)
    known = sniff(data[start : start + 1024]) if end is not None else None
    if known is None and signature.needle == b"ftyp":
        known = BY_NAME["MP4"]  # of any brand: its tracks decide
    if known is None or end is None or end <= start:
        return None
    role: Role | None = "map" if known.name == "JPEG" and declares_map(data, start, end) else None
    return Part(offset=start, length=end - start, format=known, role=role)


def films_within(data: bytes) -> Iterator[Part]:
    """Yield the films that begin inside a film, whose decoder passes over them."""
    at = 8
    for _ in range(MAX_CANDIDATES):
        at = data.find(b"ftyp", at + 1)
        if at < 0:
            return
        end = _iso_end(data, at - 4)
        if end is not None and end - at > _MAX_FTYP_BYTES // 16:
            yield Part(offset=at - 4, length=end - at + 4, format=BY_NAME["MP4"])


def is_unexplained(data: bytes, parts: list[Part], start: int) -> bool:
    """Return whether trailing bytes hold more than the parts in them: an archive, a document or much else."""
    others = [data[a:b] for a, b in gaps([(part.offset, part.end) for part in parts], start, len(data))]
    if sum(len(one) - one.count(0) for one in others) > MAX_UNEXPLAINED_BYTES:
        return True
    return any(needle in one for one in others for needle in (*_ARCHIVES, *_DOCUMENTS))


def holds_archive(data: bytes) -> bool:
    """Return whether there is a RAR or 7-Zip archive in some bytes."""
    return any(needle in data for needle in _ARCHIVES[1:])


def _png_end(data: bytes, at: int) -> int | None:
    for kind, _, stop in png_chunks(data[at:]):
        if kind == b"IEND":
            return min(at + stop + 4, len(data))
    return len(data)


def _riff_end(data: bytes, at: int) -> int | None:
    known = sniff(data[at : at + 12])
    return min(at + 8 + int.from_bytes(data[at + 4 : at + 8], "little"), len(data)) if known else None


def _iso_end(data: bytes, at: int) -> int | None:
    size = int.from_bytes(data[at : at + 4], "big")
    if at < 0 or not 8 <= size <= _MAX_FTYP_BYTES:
        return None
    end = None
    for box in top_boxes(_reader(data, 0), at, len(data)):
        if box.kind not in _FILM_BOXES or (box.kind == b"ftyp" and box.start > at):
            break
        end = box.end
    return end


def _matroska_end(data: bytes, at: int) -> int | None:
    return at + matroska_layout(_reader(data, at), len(data) - at).end


def _asf_end(data: bytes, at: int) -> int | None:
    return at + asf_layout(_reader(data, at), len(data) - at).end


def _reader(data: bytes, base: int) -> Read:
    return lambda at, count: data[base + at : base + at + count]


def _tiff_end(data: bytes, at: int) -> int | None:
    return len(data) if has_picture(data, at, len(data)) else None


def _to_the_end(data: bytes, _at: int) -> int | None:
    return len(data)


_MEDIA = (
    _Signature(b"\xff\xd8\xff", lambda data, at: jpeg_end(data, at, len(data))),
    _Signature(b"\x89PNG\r\n\x1a\n", _png_end),
    _Signature(b"RIFF", _riff_end),
    _Signature(b"GIF8", lambda data, at: gif_end(data, at, len(data))),
    _Signature(b"ftyp", _iso_end, back=4),
    _Signature(b"\x1a\x45\xdf\xa3", _matroska_end),
)

_MORE_MEDIA = (
    _Signature(b"II*\0", _tiff_end),
    _Signature(b"MM\0*", _tiff_end),
    _Signature(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), _asf_end),
    _Signature(b"OggS", _to_the_end),
    _Signature(b"FLV\x01", _to_the_end),
)
