"""Decodes as much of a truncated file as there is, without Pillow's process-wide switch for that.

`ImageFile.LOAD_TRUNCATED_IMAGES` would make the strict decodes of other threads tolerant too. So the bytes
are mended where a decoder needs an end, and the rows decoded before an error are kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from PIL import Image, ImageFile

from clipmod_cli.decode.formats import Format, load
from clipmod_cli.decode.limits import DecodeLimits
from clipmod_cli.decode.stills.segments import read_jpeg

_JPEG_END = b"\xff\xd9"
_PNG_SIGNATURE_BYTES = 8
_PNG_CHUNKS_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf"})
_RIFF_HEADER_BYTES = 8


def mend(data: bytes, known: Format, limits: DecodeLimits) -> bytes:
    """Return `data` changed such that a decoder of the format decodes the part that is there."""
    if known.mend is None:
        return data
    mended: bytes = load(known.mend)(data, limits)
    return mended


def mend_jpeg(data: bytes, _limits: DecodeLimits) -> bytes:
    """Return a JPEG with an end marker where it ends: libjpeg fills what is missing with grey."""
    return data[: read_jpeg(data, 0, len(data)).end] + _JPEG_END


def trim_webp(data: bytes, end: int) -> bytes:
    """Return an animated WebP that ends after `end` bytes, with a header that says so."""
    return b"RIFF" + (end - _RIFF_HEADER_BYTES).to_bytes(4, "little") + data[8:end]


def load_decoded_rows(opened: ImageFile.ImageFile) -> Image.Image:
    """Return the picture with the rows that were decoded before an error; raises if there were none."""
    try:
        opened.load()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 — the strict try has reported it; here only the rows count
        opened.tile = []
        return opened.copy()  # its size is that of the rows; an unfinished TIFF has not been turned yet
    return opened


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of each chunk's body; the last one may end beyond the data."""
    at = _PNG_SIGNATURE_BYTES
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at + 8, at + 8 + length
        at += 12 + length


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of the body of each chunk of a WebP; the last one may end beyond the data."""
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, at + 8 + length
        at += 8 + length + (length & 1)


def colour_table_bytes(flags: int) -> int:
    """Return the length of the colour table that the flags of a GIF's block announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def skip_sub_blocks(data: bytes, at: int) -> int:
    """Return where a GIF's chain of sub-blocks ends."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def mend_png(data: bytes, _limits: DecodeLimits) -> bytes:
    """Return a PNG of only the chunks that its still picture needs, with right checksums.

    Pillow refuses a file for the wrong checksum of a comment, which viewers ignore.
    """
    parts = [data[:_PNG_SIGNATURE_BYTES]]
    for kind, start, end in png_chunks(data):
        if kind in _PNG_CHUNKS_NEEDED:
            body = data[start:end]
            parts += [len(body).to_bytes(4, "big"), kind, body, zlib.crc32(kind + body).to_bytes(4, "big")]
    return b"".join(parts)


def mend_webp(data: bytes, limits: DecodeLimits) -> bytes:
    """Return a WebP padded with zeros to the length that its header declares, which the decoder needs.

    The rows after the cut are garbage.
    """
    declared = _RIFF_HEADER_BYTES + int.from_bytes(data[4:8], "little")
    return data.ljust(min(declared, limits.max_file_bytes), b"\0")
