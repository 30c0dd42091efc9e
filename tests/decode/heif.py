"""Writes HEIF and AVIF files of any structure: pictures with any roles, hidden ones, sequences beside stills.

The codes of the pictures are those of the usual encoders.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from PIL import Image

from clipmod_cli.decode.reading.boxes import boxes, find

AUXILIARY = b"urn:com:apple:photo:2020:aux:hdrgainmap"
CODES = {"HEIF": (b"hvc1", b"hvcC", b"heic"), "AVIF": (b"av01", b"av1C", b"avif")}


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, *bodies: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *bodies)


def aperture(left: tuple[int, int]) -> bytes:
    """Return the property that leaves the middle of a picture, of this (width, height)."""
    return box(b"clap", struct.pack(">8i", left[0], 1, left[1], 1, 0, 1, 0, 1))


@dataclass(frozen=True)
class Still:
    """An item: a picture, with `role` (`thmb`, `auxl`, `dimg` of a gain map) of the primary one."""

    picture: Image.Image
    role: bytes | None = None
    hidden: bool = False


def code(picture: Image.Image, name: str) -> tuple[bytes, bytes]:
    """Return (the decoder's configuration box, the coded picture)."""
    buffer = io.BytesIO()
    if name == "HEIF":
        import pillow_heif

        pillow_heif.from_pillow(picture).save(buffer, quality=80)
    else:
        picture.save(buffer, name, quality=80)
    data = buffer.getvalue()

    def read(at: int, count: int) -> bytes:
        return data[at : at + count]

    meta = find(read, 0, len(data), b"meta")
    assert meta is not None
    properties = find(read, meta.body + 4, meta.end, b"iprp", b"ipco")
    media = find(read, 0, len(data), b"mdat")
    assert properties is not None
    assert media is not None
    config = next(
        data[one.start : one.end]
        for one in boxes(read, properties.body, properties.end)
        if one.kind == CODES[name][1]
    )
    return config, data[media.body : media.end]


def write(
    stills: list[Still],
    name: str = "HEIF",
    *,
    film: bytes = b"",
    brand: bytes = b"",
    left: tuple[int, int] | None = None,
) -> bytes:
    """Return a file whose primary item is the first still, with the boxes of a film before its own.

    All pictures are cut to the size that is `left`, if it is given.
    """
    kind, _, usual = CODES[name]
    coded = [code(one.picture, name) for one in stills]
    properties = b""
    links = b""
    for number, (one, (config, _)) in enumerate(zip(stills, coded, strict=True), 1):
        properties += config + full(b"ispe", struct.pack(">II", *one.picture.size))
        properties += full(b"auxC", AUXILIARY + b"\0")
        used = [3 * number - 2 | 0x80, 3 * number - 1, *([3 * number] if one.role == b"auxl" else [])]
        used += [3 * len(stills) + 1 | 0x80] if left is not None else []
        links += struct.pack(">HB", number, len(used)) + bytes(used)
    properties += aperture(left) if left is not None else b""
    infos = b"".join(
        full(b"infe", struct.pack(">HH", number, 0) + kind + b"\0", version=2, flags=one.hidden)
        for number, one in enumerate(stills, 1)
    )
    references = b"".join(
        box(one.role, struct.pack(">HHH", number, 1, 1))
        for number, one in enumerate(stills, 1)
        if one.role is not None
    )

    def meta(base: int) -> bytes:
        places = b""
        for number, (_, body) in enumerate(coded, 1):
            places += struct.pack(">HHHII", number, 0, 1, base, len(body))
            base += len(body)
        return full(
            b"meta",
            full(b"hdlr", bytes(4) + b"pict" + bytes(13)),
            full(b"pitm", struct.pack(">H", 1)),
            full(b"iloc", b"\x44\0", struct.pack(">H", len(coded)), places),
            full(b"iinf", struct.pack(">H", len(coded)), infos),
            full(b"iref", references) if references else b"",
            box(b"iprp", box(b"ipco", properties), full(b"ipma", struct.pack(">I", len(coded)), links)),
        )

    head = rename(film, brand or usual) if film else box(b"ftyp", brand or usual, bytes(4), b"mif1", usual)
    base = len(head) + len(meta(0)) + 8
    return head + meta(base) + box(b"mdat", *(body for _, body in coded))


def rename(data: bytes, brand: bytes) -> bytes:
    """Return a file whose header has other brands; nothing in it moves."""
    size = int.from_bytes(data[:4], "big")
    other = b"mif1" if brand in {b"avif", b"avis", b"heic"} else brand
    return data[:8] + brand + data[12:16] + (brand + other) * ((size - 16) // 8) + data[size - size % 8 :]
