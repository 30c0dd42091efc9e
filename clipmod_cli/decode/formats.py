"""The table of file formats: pictures, videos and archives, each identified by its first bytes.

Opens no file; decoders are imported when first needed. A new picture format is one entry of `FORMATS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Literal, TypeAlias

FormatKind: TypeAlias = Literal["picture", "video", "archive"]

HEAD_BYTES = 1024
"""The bytes that `sniff` needs: a tar names itself at 257, MPEG-TS repeats every 188, and an Ogg file first
lists its streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A file format.

    Attributes:
        name: as it stands in records; for pictures Pillow's name of the format.
        sniff: whether a file that begins with these bytes (at least `HEAD_BYTES`, or all) has the format.
        extensions: of file names, in lower case; a file in a folder is an input if it has one of them.
        written: the extension of files that clipmod writes itself; by default the first of `extensions`.
        mime: the media type.
        open: for a picture the Pillow plugin as `module:Class`; for a video FFmpeg's demuxer.
        listed: the extensions that the HTTP interfaces list.
        package: the optional package that `open` needs.
        memory_weight: pixels of the decode budget per pixel of the picture, by the memory of its decoder.
            Measured at 50 megapixels: JPEG 3 bytes a pixel, PNG and TIFF 7, AVIF 9, WebP 15; so a budget of
            200 megapixels is less than 800 MB whatever the formats.
        timeline: the reader of an animation's frame times, as `module:function`.
        mend: what makes truncated bytes decodable, as `module:function`.
        seekable: its decoder reaches a frame without decoding those before it.
    """

    name: str
    kind: FormatKind = "picture"
    sniff: Callable[[bytes], object]
    extensions: tuple[str, ...] = ()
    written: str = ""
    mime: str = "application/octet-stream"
    open: str = ""
    listed: tuple[str, ...] = ()
    package: str | None = None
    memory_weight: int = 2
    timeline: str | None = None
    mend: str | None = None
    seekable: bool = False

    @property
    def extension(self) -> str:
        """The extension of files that clipmod writes itself, without a dot."""
        return self.written or self.extensions[0]


def sniff(head: bytes) -> Format | None:
    """Return the format of a file that begins with `head` (`HEAD_BYTES` bytes or more, or all), or None."""
    head = head[:HEAD_BYTES]
    return next((known for known in FORMATS if known.sniff(head)), None)


def kind_of(head: bytes, name: str) -> FormatKind | None:
    """Return what a file is by its first bytes, else by the extension of its name; None for neither."""
    known = sniff(head) or format_by_extension(name)
    return known.kind if known is not None else None


def format_by_extension(name: str) -> Format | None:
    """Return the format that the extension of a file's name stands for, or None."""
    extension = PurePosixPath(name).suffix[1:].lower()
    return next((known for known in FORMATS if extension in known.extensions), None)


@cache
def load(dotted: str) -> Any:
    """Return what `module:name` names; raises ImportError if the module is not installed."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)


def packet_layout(head: bytes) -> tuple[int, int] | None:
    """Return an MPEG transport stream's (bytes per packet, offset of its sync byte), None for other bytes."""
    for size, offset in _TS_LAYOUTS:
        if head[offset : _TS_PACKETS * size : size] == _TS_SYNC * _TS_PACKETS:
            return size, offset
    return None


_TS_LAYOUTS = ((188, 0), (192, 4), (204, 0))
"""(bytes per packet, offset of the letter G in it): plain, with a disc's or camera's time before each
(M2TS), with a broadcast's check bytes after it."""

_TS_SYNC = b"\x47"
_TS_PACKETS = 3
"""A letter G alone proves nothing; three of them one packet apart do."""

_DIB_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})
"""`BM` alone begins many an English text; a bitmap's second header has one of these lengths."""

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_AUDIO_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})

ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
"""How the packets of an ASF begin (ASF specification 1.20.03, 5.1)."""

OGG_PICTURES = (b"\x80theora", b"OVP80", b"BBCD\0", b"\x01video\0")
"""First packet of a stream of pictures: Theora, VP8, Dirac, OGM. Most Ogg files are sound."""


def _starts(*signatures: bytes, at: int = 0) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signatures, at)


def _riff(kind: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(b"RIFF") and head[8:12] == kind


def _bitmap(head: bytes) -> bool:
    return head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _DIB_HEADER_SIZES


def _iso_media(name: str) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and _iso_media_name(head) == name


def _iso_media_name(head: bytes) -> str | None:
    """Return the name of the format of an ISO base media file, by its brands."""
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


def _quicktime(head: bytes) -> bool:
    if head.startswith((b"free", b"skip", b"styp"), 4):
        return head[0] < ord(" ")  # these are words too; in a text a letter stands where the size begins
    return head.startswith((b"moov", b"mdat", b"wide"), 4) or _iso_media("MOV")(head)


def _ogg(head: bytes) -> bool:
    return head.startswith(b"OggS") and any(mark in head for mark in OGG_PICTURES)


_TIMELINES = "clipmod_cli.decode.moving.timeline"
_MENDING = "clipmod_cli.decode.stills.mending"

FORMATS: tuple[Format, ...] = (
    Format(
        name="JPEG",
        sniff=_starts(b"\xff\xd8\xff"),
        extensions=("jpg", "jpeg", "jpe", "jfif"),
        mime="image/jpeg",
        open="PIL.JpegImagePlugin:JpegImageFile",
        listed=("jpg", "jpeg"),
        memory_weight=1,  # decoded straight into its array
        mend=f"{_MENDING}:mend_jpeg",
    ),
    Format(
        name="PNG",
        sniff=_starts(b"\x89PNG\r\n\x1a\n"),
        extensions=("png", "apng"),
        mime="image/png",
        open="clipmod_cli.decode.moving.apng:ExactApngFile",
        listed=("png",),
        timeline=f"{_TIMELINES}:apng_timeline",
        mend=f"{_MENDING}:mend_png",
    ),
    Format(
        name="BMP",
        sniff=_bitmap,
        extensions=("bmp", "dib"),
        mime="image/bmp",
        open="PIL.BmpImagePlugin:BmpImageFile",
        listed=("bmp",),
    ),
    Format(
        name="GIF",
        sniff=_starts(b"GIF87a", b"GIF89a"),
        extensions=("gif",),
        mime="image/gif",
        open="clipmod_cli.decode.moving.gif:ClearGifFile",
        listed=("gif",),
        timeline=f"{_TIMELINES}:gif_timeline",
    ),
    Format(
        name="WEBP",
        sniff=_riff(b"WEBP"),
        extensions=("webp",),
        mime="image/webp",
        open="PIL.WebPImagePlugin:WebPImageFile",
        listed=("webp",),
        memory_weight=4,
        timeline=f"{_TIMELINES}:webp_timeline",
        mend=f"{_MENDING}:mend_webp",
    ),
    Format(
        name="AVIF",
        sniff=_iso_media("AVIF"),
        extensions=("avif", "avifs"),
        mime="image/avif",
        open="PIL.AvifImagePlugin:AvifImageFile",
        listed=("avif",),
        memory_weight=3,
        timeline=f"{_TIMELINES}:avif_timeline",
        seekable=True,
    ),
    Format(
        name="TIFF",
        sniff=_starts(b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"),
        extensions=("tif", "tiff"),
        mime="image/tiff",
        open="PIL.TiffImagePlugin:TiffImageFile",
        listed=("tiff",),
        timeline=f"{_TIMELINES}:tiff_timeline",
        seekable=True,
    ),
    Format(
        name="HEIF",
        sniff=_iso_media("HEIF"),
        extensions=("heic", "heif", "hif"),
        mime="image/heic",
        open="pillow_heif:HeifImageFile",
        listed=("heic", "heif"),
        package="pillow_heif",
        memory_weight=3,
    ),
    Format(
        name="MP4",
        kind="video",
        sniff=_iso_media("MP4"),
        extensions=("mp4", "m4v", "f4v", "3gp", "3g2"),
        mime="video/mp4",
        open="mov",
    ),
    Format(
        name="MATROSKA",
        kind="video",
        sniff=_starts(b"\x1a\x45\xdf\xa3"),
        extensions=("mkv", "webm"),
        mime="video/x-matroska",
        open="matroska",
    ),
    Format(
        name="AVI",
        kind="video",
        sniff=_riff(b"AVI "),
        extensions=("avi",),
        mime="video/x-msvideo",
        open="avi",
    ),
    Format(
        name="FLV",
        kind="video",
        sniff=_starts(b"FLV\x01"),
        extensions=("flv",),
        mime="video/x-flv",
        open="flv",
    ),
    Format(
        name="MPEG-TS",
        kind="video",
        sniff=packet_layout,
        extensions=("mts", "m2ts"),  # nearly all files named `.ts` are TypeScript
        written="ts",
        mime="video/mp2t",
        open="mpegts",
    ),
    Format(
        name="MPEG-PS",
        kind="video",
        sniff=_starts(b"\0\0\x01\xba"),
        extensions=("mpg", "mpeg", "vob"),
        mime="video/mpeg",
        open="mpeg",
    ),
    Format(
        name="ASF",
        kind="video",
        sniff=_starts(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
        extensions=("wmv", "asf"),
        mime="video/x-ms-asf",
        open="asf",
    ),
    Format(
        name="OGG",
        kind="video",
        sniff=_ogg,
        extensions=("ogv",),
        written="ogg",
        mime="video/ogg",
        open="ogg",
    ),
    Format(
        name="ZIP",
        kind="archive",
        sniff=_starts(b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"),
        extensions=("zip", "cbz"),
    ),
    Format(name="TAR", kind="archive", sniff=_starts(b"ustar", at=257), extensions=("tar", "cbt")),
    Format(name="GZIP", kind="archive", sniff=_starts(b"\x1f\x8b\x08"), extensions=("gz", "tgz")),
    Format(name="BZIP2", kind="archive", sniff=_starts(b"BZh"), extensions=("bz2", "tbz2")),
    Format(name="XZ", kind="archive", sniff=_starts(b"\xfd7zXZ\0"), extensions=("xz", "txz")),
    Format(name="ZSTD", kind="archive", sniff=_starts(b"\x28\xb5\x2f\xfd"), extensions=("zst", "tzst")),
    Format(
        name="MOV",
        kind="video",
        sniff=_quicktime,
        extensions=("mov", "qt"),
        mime="video/quicktime",
        open="mov",
    ),
)
"""All formats; the first that fits the bytes wins. MOV is last: its atoms follow four bytes of any value."""


def picture_formats() -> tuple[Format, ...]:
    """Return the formats of pictures."""
    return tuple(known for known in FORMATS if known.kind == "picture")
