"""What bytes are, judged by the bytes: pictures, videos and archives. Opens nothing, cheap to import.

A name's extension counts only for the question whether a file found in a folder is an input at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

MediaClass: TypeAlias = Literal["picture", "video", "archive"]

HEAD_BYTES = 1024
"""The first bytes that `sniff` wants to see: a tar names itself at 257, MPEG-TS repeats every 188,
and an Ogg file first names its streams."""

PICTURES = frozenset({"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"})
VIDEOS = frozenset({"MP4", "MOV", "MATROSKA", "AVI", "FLV", "MPEG-TS", "MPEG-PS", "ASF", "OGG"})
ARCHIVES = frozenset({"ZIP", "TAR", "GZIP", "BZIP2", "XZ", "ZSTD", "7Z", "RAR"})

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0\x08\0\0\0", "TIFF"),
    (0, b"MM\0+\0\x08\0\0", "TIFF"),
    (0, b"\x1a\x45\xdf\xa3", "MATROSKA"),
    (0, b"FLV\x01", "FLV"),
    (0, b"\0\0\x01\xba", "MPEG-PS"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"PK\x05\x06", "ZIP"),
    (0, b"PK\x07\x08", "ZIP"),
    (257, b"ustar", "TAR"),
    (0, b"\x1f\x8b\x08", "GZIP"),
    (0, b"BZh", "BZIP2"),
    (0, b"\xfd7zXZ\0", "XZ"),
    (0, b"\x28\xb5\x2f\xfd", "ZSTD"),
    (0, b"7z\xbc\xaf\x27\x1c", "7Z"),
    (0, b"Rar!\x1a\x07", "RAR"),
    (4, b"moov", "MOV"),
    (4, b"mdat", "MOV"),
    (4, b"wide", "MOV"),
)
"""(offset, bytes, name): formats that a fixed string gives away. The first that fits wins, so what stands
behind four bytes of any value (a QuickTime atom's length) comes last."""

_DIB_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})
"""`BM` alone begins many an English text; a bitmap's second header is one of these long."""

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_AUDIO_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})

_TS_LAYOUTS = ((188, 0), (192, 4), (204, 0))
"""(bytes of a packet, where in it the letter G stands): plain, with a disc's or camera's time before
each (M2TS), with a broadcast's check bytes after it."""

_TS_SYNC = b"\x47"
_TS_PACKETS = 3
"""A letter G alone proves nothing; three of them one packet apart do."""

_EXTENSIONS: dict[MediaClass, str] = {
    "picture": "jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff avif avifs heic heif hif",
    "video": "mp4 m4v mov qt mkv webm avi flv f4v mts m2ts mpg mpeg vob wmv asf 3gp 3g2 ogv",
    "archive": "zip tar tgz tbz2 txz tzst gz bz2 xz zst 7z rar cbz cbr cb7 cbt",
}
"""`.ts` is missing on purpose: nearly all such files are TypeScript; a real MPEG-TS is known by content."""

_CLASS_BY_EXTENSION: dict[str, MediaClass] = {
    f".{extension}": kind for kind, extensions in _EXTENSIONS.items() for extension in extensions.split()
}


def sniff(head: bytes) -> str | None:
    """Return the name of the format that `head` (the first `HEAD_BYTES` bytes) begins, or None.

    For pictures it is Pillow's name of the format, as `JPEG`; HEIC is `HEIF`.
    """
    for offset, signature, name in _SIGNATURES:
        if head.startswith(signature, offset):
            return name
    for recognise in _RECOGNISERS:
        if name_found := recognise(head):
            return name_found
    return None


def media_class(head: bytes, name: str) -> MediaClass | None:
    """Return what a file is by its first bytes, else by its name's extension; None for neither."""
    known = sniff(head)
    if known is None:
        return _CLASS_BY_EXTENSION.get(PurePosixPath(name).suffix.lower())
    return class_of(known)


def class_of(name: str) -> MediaClass:
    """Return which class a format that `sniff` named belongs to."""
    if name in PICTURES:
        return "picture"
    return "video" if name in VIDEOS else "archive"


def _riff(head: bytes) -> str | None:
    if not head.startswith(b"RIFF"):
        return None
    return {b"WEBP": "WEBP", b"AVI ": "AVI"}.get(head[8:12])


def _bitmap(head: bytes) -> str | None:
    known_header = int.from_bytes(head[14:18], "little") in _DIB_HEADER_SIZES
    return "BMP" if head.startswith(b"BM") and known_header else None


def _iso_media(head: bytes) -> str | None:
    """Return which of the formats in an ISO base media file this is, by its brands."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    major = head[8:12]
    brands = {major, *(head[at : at + 4] for at in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIF_BRANDS:
        return "HEIF"
    if major in _AUDIO_BRANDS:
        return None
    return "MOV" if major == b"qt  " else "MP4"


def packet_layout(head: bytes) -> tuple[int, int] | None:
    """Return an MPEG transport stream's (bytes of a packet, place of its sync byte), None for other bytes."""
    for size, offset in _TS_LAYOUTS:
        if head[offset : _TS_PACKETS * size : size] == _TS_SYNC * _TS_PACKETS:
            return size, offset
    return None


def _transport_stream(head: bytes) -> str | None:
    return "MPEG-TS" if packet_layout(head) else None


_OGG_PICTURES = (b"\x80theora", b"OVP80", b"BBCD\0", b"\x01video\0")
"""How the first packet of a stream of pictures begins: Theora, VP8, Dirac, OGM. Most Ogg files are sound."""


def _ogg(head: bytes) -> str | None:
    is_film = head.startswith(b"OggS") and any(mark in head for mark in _OGG_PICTURES)
    return "OGG" if is_film else None


_RECOGNISERS: tuple[Callable[[bytes], str | None], ...] = (
    _riff,
    _bitmap,
    _iso_media,
    _transport_stream,
    _ogg,
)
