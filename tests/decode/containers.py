"""Files that hold more than one picture: a blue square first, and a red circle where a person may find it."""

from __future__ import annotations

import io
import struct
import zipfile
from functools import cache
from typing import Any, Literal

import av
import numpy as np
from PIL import Image

from tests.decode.heif import Still, aperture, box, write
from tests.decode.pictures import encode, png_chunk
from tests.tiny.shapes import draw_clear

SIDE = 96


def red(side: int = SIDE) -> Image.Image:
    return draw_clear("red", "circle", (side, side))


def blue(side: int = SIDE) -> Image.Image:
    return draw_clear("blue", "square", (side, side))


@cache
def film(*colours: str, form: str = "mp4", codec: str = "libx264") -> bytes:
    """Return a short film: of the red circle, if no colours are given."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", form) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for colour in colours or ("red",) * 3:
            picture = red() if colour == "red" else blue()
            pixels = np.asarray(picture)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def sound() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", "mp4") as container:
        stream: Any = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate = 8000
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux([*stream.encode(frame), *stream.encode()])
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("red.bmp", encode(red(), "BMP"))
    return buffer.getvalue()


def zip64() -> bytes:
    """Return the archive with the end record of a large one: the old record's numbers say to look there."""
    data = archive()
    count, length, at = struct.unpack_from("<HLL", data, len(data) - 12)
    record = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, count, count, length, at)
    record += b"PK\6\7" + struct.pack("<LQL", 0, len(data) - 22, 1)
    return data[:-22] + record + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)


def jpeg(picture: Image.Image, *segments: tuple[int, bytes], **settings: Any) -> bytes:
    """Return a JPEG with further segments (marker, body) behind its SOI marker."""
    data = encode(picture, "JPEG", quality=90, **settings)
    extra = b"".join(
        b"\xff" + bytes((marker,)) + struct.pack(">H", 2 + len(body)) + body for marker, body in segments
    )
    return data[:2] + extra + data[2:]


def exif_with_thumbnail(thumbnail: bytes) -> bytes:
    """Return the body of an EXIF segment with a JPEG as thumbnail."""
    entries = ((0x103, 3, 6), (0x201, 4, 56), (0x202, 4, len(thumbnail)))
    second = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    head = b"II*\0" + struct.pack("<IHI", 8, 0, 14) + struct.pack("<H", 3) + second + bytes(4)
    return b"Exif\0\0" + head + thumbnail


def exif_with_raw_thumbnail(thumbnail: Image.Image) -> bytes:
    """Return the body of an EXIF segment with raw pixels as thumbnail."""
    tags = ((256, 3, thumbnail.width), (257, 3, thumbnail.height), (258, 3, 8), (259, 3, 1), (262, 3, 2))
    raw = thumbnail.tobytes()
    more = ((273, 4, 8 + 6 + 2 + 9 * 12 + 4), (277, 3, 3), (278, 3, thumbnail.height), (279, 4, len(raw)))
    second = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in (*tags, *more))
    return b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 14) + struct.pack("<H", 9) + second + bytes(4) + raw


def mpo(*pictures: bytes, kinds: tuple[int, ...] = ()) -> bytes:
    """Return JPEGs behind each other with an index (CIPA DC-007) of their kinds."""

    def index(offsets: list[int]) -> bytes:
        entries = b"".join(
            struct.pack("<IIIHH", kind, len(one), offset, 0, 0)
            for kind, one, offset in zip((*kinds, *[0] * len(pictures)), pictures, offsets, strict=False)
        )
        head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 3)
        head += struct.pack("<HHI4s", 0xB000, 7, 4, b"0100")
        head += struct.pack("<HHII", 0xB001, 4, 1, len(pictures))
        head += struct.pack("<HHII", 0xB002, 7, len(entries), 50) + bytes(4)
        return b"MPF\0" + head + entries

    length = 4 + len(index([0] * len(pictures)))
    base, at = 2 + 4 + 4, len(pictures[0]) + length
    offsets = [0]
    for one in pictures[1:]:
        offsets.append(at - base)
        at += len(one)
    first, body = pictures[0], index(offsets)
    segment = b"\xff\xe2" + struct.pack(">H", 2 + len(body)) + body
    return first[:2] + segment + first[2:] + b"".join(pictures[1:])


def riff(data: bytes, kind: bytes, body: bytes) -> bytes:
    """Return a WebP with a further chunk."""
    chunk = kind + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)
    return b"RIFF" + struct.pack("<I", len(data) - 8 + len(chunk)) + data[8:] + chunk


def png_with(picture: Image.Image, kind: bytes, body: bytes) -> bytes:
    """Return a PNG with a further chunk before its pixels."""
    data = encode(picture, "PNG")
    return data[:33] + png_chunk(kind, body) + data[33:]


def tiff_with_sub_ifd(outer: Image.Image, inner: Image.Image) -> bytes:
    """Return a TIFF of one page whose directory refers to another picture as SubIFD."""
    order: Literal["little"] = "little"
    data, other = bytearray(encode(outer, "TIFF")), encode(inner, "TIFF")
    data += bytes(len(data) & 1)
    base = len(data)
    moved = bytearray(other)
    at = int.from_bytes(other[4:8], order)
    for entry in range(at + 2, at + 2 + 12 * int.from_bytes(other[at : at + 2], order), 12):
        tag, kind, count = (
            int.from_bytes(other[entry + a : entry + b], order) for a, b in ((0, 2), (2, 4), (4, 8))
        )
        outside = {3: 2, 4: 4, 5: 8}.get(kind, 1) * count > 4
        if tag == 273 or outside:
            place = int.from_bytes(other[entry + 8 : entry + 12], order)
            moved[entry + 8 : entry + 12] = (place + base).to_bytes(4, order)
            if tag == 273 and outside:
                for one in range(place, place + 4 * count, 4):
                    value = int.from_bytes(other[one : one + 4], order) + base
                    moved[one : one + 4] = value.to_bytes(4, order)
    data += moved
    first = int.from_bytes(data[4:8], order)
    count = int.from_bytes(data[first : first + 2], order)
    entries = sorted(
        [bytes(data[first + 2 + 12 * n : first + 14 + 12 * n]) for n in range(count)]
        + [struct.pack("<HHII", 330, 4, 1, base + at)],
        key=lambda entry: int.from_bytes(entry[:2], order),
    )
    data[4:8] = len(data).to_bytes(4, order)
    data += struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return bytes(data)


def matroska_with_attachment(name: str, mime: str, body: bytes) -> bytes:
    """Return a film of blue squares that has a file attached."""

    def element(ident: str, content: bytes) -> bytes:
        return bytes.fromhex(ident) + (len(content) | 1 << 56).to_bytes(8, "big") + content

    attached = element("466e", name.encode()) + element("4660", mime.encode()) + element("465c", body)
    attached = element("1941a469", element("61a7", attached + element("46ae", b"\1")))
    data = film("blue", "blue", form="matroska")
    at = data.index(b"\x18\x53\x80\x67")
    size = int.from_bytes(data[at + 5 : at + 12], "big") + len(attached)
    assert data[at + 4] == 1
    return data[: at + 5] + size.to_bytes(7, "big") + data[at + 12 :] + attached


def apng(*pictures: Image.Image, declared: int) -> bytes:
    """Return an animation that declares another number of frames than it has."""
    data = encode(pictures[0], "PNG", save_all=True, append_images=pictures[1:], duration=100)
    at = data.index(b"acTL") - 4
    return data[:at] + png_chunk(b"acTL", struct.pack(">II", declared, 0)) + data[at + 20 :]


def with_film_box(kind: bytes, body: bytes) -> bytes:
    """Return a HEIC of a blue square with a box that holds a film, as phones write it."""
    return write([Still(blue())]) + box(kind, body)


def cropped_film(left: tuple[int, int]) -> bytes:
    """Return a MOV of a blue square whose clean aperture is this (width, height)."""
    data = film("blue", "blue", form="mov")
    parts = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"]
    added = aperture(left)
    grown = bytearray(data)
    at = 0
    for part in parts:
        at = data.index(part, at)
        size = int.from_bytes(data[at - 4 : at], "big")
        grown[at - 4 : at] = (size + len(added)).to_bytes(4, "big")
    end = at - 4 + int.from_bytes(data[at - 4 : at], "big")
    assert data.index(b"mdat") < data.index(b"moov")  # so that nothing it refers to moves
    return bytes(grown[:end]) + added + bytes(grown[end:])


def cropped_matroska(left: int) -> bytes:
    """Return a Matroska film of blue squares of which so many columns are shown."""
    data = film("blue", "blue", form="matroska")
    width = b"\xb0\x81" + bytes((SIDE,))
    assert data.count(width) == 1
    at = data.index(width)
    added = b"\x54\xcc\x81" + bytes((SIDE - left,))
    grown = bytearray(data[:at] + added + data[at:])
    uid = data.rindex(b"\x73\xc5\x88", 0, at)  # random, so that it can hold the ID of the track
    for ident, end in ((b"\x18\x53\x80\x67", at), (b"\x16\x54\xae\x6b", at), (b"\xae", uid), (b"\xe0", at)):
        start = data.rindex(ident, 0, end) + len(ident)
        wide = 9 - data[start].bit_length()
        size = int.from_bytes(data[start : start + wide], "big") + len(added)
        grown[start : start + wide] = size.to_bytes(wide, "big")
    return bytes(grown)


def retyped_matroska(kind: int) -> bytes:
    """Return a film of a red circle whose track declares another type."""
    data = film(form="matroska")
    assert data.count(b"\x83\x81\x01") == 1
    return data.replace(b"\x83\x81\x01", b"\x83\x81" + bytes((kind,)))


TRANSPARENT = Image.merge("RGBA", [Image.new("L", (SIDE, SIDE), 255)] * 3 + [red().convert("L")])
PALETTED = encode(blue().quantize(4), "PNG", transparency=0)


def png_twice(kind: bytes) -> bytes:
    """Return a PNG with a palette and transparency, of which one chunk is there twice."""
    at = PALETTED.index(kind) - 4
    end = at + 12 + int.from_bytes(PALETTED[at : at + 4], "big")
    return PALETTED[:end] + PALETTED[at:]


def denied_alpha(*, lossless: bool) -> bytes:
    """Return a WebP of alpha whose header does not name it."""
    data = encode(TRANSPARENT, "WEBP", lossless=lossless, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    assert data[12:16] == b"VP8X"
    assert data[20] & 0x10
    return data[:20] + bytes((data[20] & ~0x10,)) + data[21:]


def tiff_with_a_tag_twice() -> bytes:
    """Return a TIFF that says twice where its pixels are, which two decoders take for two pictures."""
    data = bytearray(encode(blue(), "TIFF"))
    first = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[first : first + 2], "little")
    entries = [bytes(data[first + 2 + 12 * n : first + 14 + 12 * n]) for n in range(count)]
    place = next(n for n, entry in enumerate(entries) if entry[:2] == struct.pack("<H", 273))
    entries.insert(place, entries[place])
    data[4:8] = len(data).to_bytes(4, "little")
    return bytes(data) + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


def rle_bitmap(picture: Image.Image, *, declared: int = 0, spill: bytes = b"", profile: bytes = b"") -> bytes:
    """Return a BMP of runs of one pixel.

    Args:
        picture: quantised to 16 colours.
        declared: how many bytes more than its codes the header gives to the pixels.
        spill: indices that follow each row's last pixel, before the code that ends the row.
        profile: embedded behind the pixels, if it is not empty.
    """
    indexed = picture.quantize(16)
    palette = bytes(indexed.getpalette("BGRX") or ()).ljust(1024, b"\0")
    runs = (
        b"".join(
            b"".join(bytes((1, index)) for index in row.tobytes() + spill) + b"\0\0"
            for row in (indexed.crop((0, y, indexed.width, y + 1)) for y in range(indexed.height - 1, -1, -1))
        )
        + b"\0\x01"
    )
    info = 124 if profile else 40
    head = struct.pack("<IiiHHIIiiII", info, *indexed.size, 1, 8, 1, len(runs) + declared, 0, 0, 256, 0)
    if profile:
        place = info + len(palette) + len(runs)
        head += (
            bytes(16)
            + struct.pack("<I", 0x4D424544)
            + bytes(48)
            + struct.pack("<4I", 4, place, len(profile), 0)
        )
    first = 14 + len(head) + len(palette)
    size = first + len(runs) + len(profile)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, first) + head + palette + runs + profile
