"""Metadata is removed from a picture, and no pixel is touched: laws over planted secrets and torn files."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, ImageSequence, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from clipmod_cli.decode.contents.chunks import MAX_CHUNKS
from clipmod_cli.server.hosting.metadata.errors import UnstrippableError
from clipmod_cli.server.hosting.metadata.strip import STRIPPERS, strip_metadata
from tests.decode.containers import exif_with_thumbnail, jpeg, mpo, riff
from tests.decode.heif import Still, box, write
from tests.decode.pictures import encode, png_chunk, quarters
from tests.end_to_end.command import SAMPLES

SECRET = b"planted-secret"
TEXT = SECRET.decode()
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta><dc:creator>" + SECRET + b"</dc:creator></x:xmpmeta>"
PICTURE = quarters()
PIXELS: dict[str, Any] = {"JPEG": {"quality": 90}, "WEBP": {"lossless": True}, "AVIF": {"quality": 90}}

ORIENTATIONS = st.integers(1, 8)
EXIF_FORMATS = st.sampled_from(["JPEG", "PNG", "WEBP"])


def exif(orientation: int = 1) -> Image.Exif:
    """Return EXIF metadata with secrets in every directory, and an orientation."""
    made = Image.Exif()
    made[0x0112] = orientation
    made[0x010E] = made[0x013B] = TEXT
    made.get_ifd(0x8769)[0x927C] = SECRET  # the maker's note
    made.get_ifd(0x8825)[0x001D] = TEXT  # GPS
    return made


def shown(data: bytes) -> tuple[list[Any], bytes | None, Any]:
    """Return the frames as viewers show them, the profile, and how often an animation repeats."""
    with Image.open(io.BytesIO(data)) as opened:
        profile, loop = opened.info.get("icc_profile"), opened.info.get("loop")
        frames = [
            np.asarray(ImageOps.exif_transpose(frame.convert("RGBA") if frame.mode == "P" else frame))
            for frame in (one.copy() for one in ImageSequence.Iterator(opened))
        ]
        if opened.format == "MPO":  # viewers show its first picture
            frames = frames[:1]
    return frames, profile, loop


def stored(data: bytes) -> list[Any] | None:
    """Return the frames as they are stored; None if they cannot be decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as opened:
                return [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(opened)]
        except Exception:  # noqa: BLE001 — of damaged bytes decoders raise anything
            return None


def check(data: bytes, name: str, *, secret: bytes = SECRET, gone: bool = True) -> bytes:
    """Check the law of one file, and return what it was stripped to."""
    assert secret in data, "nothing was planted"
    stripped = strip_metadata(data, name)
    assert not gone or secret not in stripped
    before, after = shown(data), shown(stripped)
    assert len(before[0]) == len(after[0])
    assert all(np.array_equal(one, other) for one, other in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:]
    assert strip_metadata(stripped, name) == stripped, "there is nothing left to strip"
    return stripped


@given(EXIF_FORMATS, ORIENTATIONS, st.booleans(), st.booleans(), st.binary(max_size=40))
def test_pixels_orientation_and_profile_stay(
    name: str, orientation: int, profiled: bool, described: bool, trailing: bytes
) -> None:
    settings: dict[str, Any] = {"exif": exif(orientation), **PIXELS.get(name, {})}
    settings |= {"xmp": XMP} if described and name != "PNG" else {}
    settings |= {"icc_profile": PROFILE} if profiled else {}
    made = encode(PICTURE, name, **settings)
    stripped = check(made + trailing, name)
    with Image.open(io.BytesIO(stripped)) as opened:
        assert dict(opened.getexif()) == ({} if orientation == 1 else {0x0112: orientation})


JPEG_PARTS = {
    "comment": (0xFE, SECRET),
    "xmp": (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
    "iptc": (0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0" + struct.pack(">I", len(SECRET)) + SECRET),
    "thumbnail": (0xE1, exif_with_thumbnail(jpeg(PICTURE, (0xFE, SECRET)))),
    "maker": (0xE7, SECRET),
    "flashpix": (0xE2, b"FPXR\0" + SECRET),
    "thumbnail in a JFIF": (0xE0, b"JFXX\0\x10" + SECRET),
}


@given(st.lists(st.sampled_from(sorted(JPEG_PARTS)), min_size=1), st.booleans(), st.booleans())
def test_segments_of_a_jpeg(parts: list[str], progressive: bool, grey: bool) -> None:
    picture = PICTURE.convert("L") if grey else PICTURE
    check(jpeg(picture, *(JPEG_PARTS[part] for part in parts), progressive=progressive), "JPEG")


def test_further_pictures_of_a_jpeg() -> None:
    check(mpo(jpeg(PICTURE), jpeg(PICTURE, (0xFE, SECRET))), "JPEG")
    cut = jpeg(PICTURE)[:20] + SECRET + jpeg(PICTURE)[20:]  # decoders look for the next marker
    check(cut, "JPEG")


def test_a_jpeg_of_inks_keeps_its_colours() -> None:
    data = jpeg(PICTURE.convert("CMYK"), (0xFE, SECRET))
    assert b"Adobe" in check(data, "JPEG")


PNG_PARTS = {
    "tEXt": b"Comment\0" + SECRET,
    "zTXt": b"Raw profile type exif\0\0" + SECRET,
    "iTXt": b"XML:com.adobe.xmp\0\0\0\0\0" + XMP,
    "eXIf": b"II*\0\x08\0\0\0\0\0\0\0\0\0" + SECRET,
    "tIME": SECRET,
    "sPLT": SECRET,
    "caBX": SECRET,
}


@given(st.lists(st.sampled_from(sorted(PNG_PARTS)), min_size=1), st.booleans(), st.booleans())
def test_chunks_of_a_png(parts: list[str], behind: bool, moves: bool) -> None:
    others = {"save_all": True, "append_images": [PICTURE.rotate(180)], "duration": 50} if moves else {}
    data = encode(PICTURE, "PNG", **others)
    at = len(data) - 12 if behind else 33
    chunks = b"".join(png_chunk(part.encode(), PNG_PARTS[part]) for part in parts)
    check(data[:at] + chunks + data[at:], "PNG")


@pytest.mark.parametrize("kind", ["bKGD", "pHYs", "sBIT", "cICP", "mDCV", "cLLI", "sRGB", "gAMA", "cHRM"])
def test_a_chunk_of_a_png_that_is_larger_than_it_can_be(kind: str) -> None:
    data = encode(PICTURE, "PNG")
    planted = data[:33] + png_chunk(kind.encode(), SECRET * 3) + data[33:]
    assert shown(planted)[0], "decoders skip it"
    with pytest.raises(UnstrippableError, match=kind):
        strip_metadata(planted, "PNG")
    with pytest.raises(UnstrippableError, match="IEND"):
        strip_metadata(data[:-12] + png_chunk(b"IEND", SECRET), "PNG")


def test_a_segment_of_a_jpeg_that_is_larger_than_it_can_be() -> None:
    data = jpeg(PICTURE, (0xDC, SECRET))  # the number of lines
    assert shown(data)[0], "decoders skip it"
    with pytest.raises(UnstrippableError, match="wrong length"):
        strip_metadata(data, "JPEG")


def test_a_header_of_an_animated_webp_that_is_larger_than_it_can_be() -> None:
    data = encode(PICTURE, "WEBP", lossless=True, save_all=True, append_images=[PICTURE.rotate(180)], loop=3)
    at = data.index(b"ANIM")
    longer = b"ANIM" + struct.pack("<I", 6 + len(SECRET)) + data[at + 8 : at + 14] + SECRET
    planted = data[:at] + longer + data[at + 14 :]
    check(planted[:4] + struct.pack("<I", len(planted) - 8) + planted[8:], "WEBP")


@pytest.mark.parametrize("tag", [282, 301, 317, 333, 529, 532])
def test_a_text_where_a_tiff_has_a_number(tag: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag] = TEXT
    tags.tagtype[tag] = 2
    data = encode(PICTURE, "TIFF", tiffinfo=tags)
    check(data, "TIFF")


def test_the_name_of_a_profile_in_a_png() -> None:
    data = encode(PICTURE, "PNG", icc_profile=PROFILE)
    at = data.index(b"iCCP") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    packed = data[at + 8 : at + 8 + length].partition(b"\0")[2]
    check(data[:at] + png_chunk(b"iCCP", SECRET + b"\0" + packed) + data[at + 12 + length :], "PNG")


@pytest.mark.parametrize("moves", [False, True])
def test_chunks_of_a_webp(moves: bool) -> None:
    others = {"save_all": True, "append_images": [PICTURE.rotate(180)], "loop": 3} if moves else {}
    data = encode(PICTURE, "WEBP", lossless=True, exif=exif(6), xmp=XMP, icc_profile=PROFILE, **others)
    check(riff(data, b"note", SECRET), "WEBP")
    simple = encode(PICTURE, "WEBP", lossless=True)
    check(riff(simple, b"note", SECRET) + SECRET, "WEBP")


@given(st.integers(1, 3), st.sampled_from([None, 0, 7]), st.booleans())
def test_blocks_of_a_gif(frames: int, loop: int | None, transparent: bool) -> None:
    pictures = [PICTURE.rotate(90 * turn).quantize(16) for turn in range(frames)]
    settings: dict[str, Any] = {"loop": loop} if loop is not None else {}
    settings |= {"transparency": 1, "disposal": 2} if transparent else {}
    data = encode(
        pictures[0], "GIF", save_all=True, append_images=pictures[1:], duration=[40] * frames,
        comment=SECRET, **settings,
    )  # fmt: skip
    xmp = b"\x21\xff\x0bXMP DataXMP" + XMP + b"\1" + bytes(range(255, -1, -1)) + b"\0"
    plain = b"\x21\x01\x0c" + bytes(12) + bytes((len(SECRET),)) + SECRET + b"\0"
    check(data[:-1] + xmp + plain + b";" + SECRET, "GIF")


@pytest.mark.parametrize("mode", ["RGB", "P", "L", "1"])
def test_gaps_of_a_bitmap(mode: str) -> None:
    data = encode(PICTURE.convert(mode), "BMP")
    first = int.from_bytes(data[10:14], "little")
    moved = data[:10] + (first + len(SECRET)).to_bytes(4, "little") + data[14:first] + SECRET + data[first:]
    check(moved + SECRET, "BMP")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("pages", [1, 3])
def test_tags_of_a_tiff(compression: str, pages: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (270, 305, 315, 700, 33723):
        tags[tag] = TEXT if tag < 700 else SECRET
    tags.tagtype.update(dict.fromkeys((700, 33723), 1))
    tags[274] = 6
    others = [PICTURE.rotate(90 * turn, expand=True) for turn in range(1, pages)]
    data = encode(
        PICTURE, "TIFF", save_all=True, append_images=others, tiffinfo=tags, icc_profile=PROFILE,
        compression=None if compression == "raw" else compression,
    )  # fmt: skip
    check(data + SECRET, "TIFF")


def test_items_of_an_avif() -> None:
    data = encode(PICTURE, "AVIF", exif=exif(6), xmp=XMP, icc_profile=PROFILE, quality=90)
    check(data + box(b"uuid", SECRET) + SECRET, "AVIF")
    assert b"XMP" not in strip_metadata(data, "AVIF")


def test_items_of_a_heic() -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(PICTURE).save(buffer, quality=80, exif=exif(6).tobytes(), xmp=XMP)
    data = buffer.getvalue() + box(b"mpvd", SECRET)
    stripped = strip_metadata(data, "HEIF")
    assert data.count(SECRET) > 1
    assert SECRET not in stripped
    before, after = (np.asarray(heif.open_heif(io.BytesIO(one))) for one in (data, stripped))
    assert np.array_equal(before, after)


def test_thumbnails_of_a_heic() -> None:
    pytest.importorskip("pillow_heif")
    data = write([Still(PICTURE), Still(PICTURE.rotate(180), role=b"thmb")])
    stripped = strip_metadata(data, "HEIF")
    assert len(stripped) == len(data)
    assert stripped.count(b"hvc1") == data.count(b"hvc1") - 1 == 1
    assert stripped.count(bytes(100)) > data.count(bytes(100)), "its pixels are blank"


SAMPLE_BYTES = {path.name: path.read_bytes() for path in SAMPLES.iterdir() if path.suffix != ".md"}
SAMPLE_NAMES = {
    "jpg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "gif": "GIF",
    "bmp": "BMP",
    "tiff": "TIFF",
    "avif": "AVIF",
}


WRITTEN_ANEW = {"rocket-rotated.jpg", "galaxies.avif"}
"""With more in the EXIF than an orientation, and with names of items."""


@pytest.mark.parametrize("name", sorted(SAMPLE_BYTES))
def test_what_has_no_metadata_is_left_as_it_is(name: str) -> None:
    data, kind = SAMPLE_BYTES[name], SAMPLE_NAMES[name.rpartition(".")[2]]
    assert (strip_metadata(data, kind) == data) == (name not in WRITTEN_ANEW)
    check(data, kind, secret=b"", gone=False)


SMALL: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: jpeg(PICTURE, *JPEG_PARTS.values(), exif=exif(6)),
    "PNG": lambda: encode(PICTURE, "PNG", pnginfo=_text(), exif=exif(6), icc_profile=PROFILE),
    "WEBP": lambda: encode(PICTURE, "WEBP", exif=exif(6), xmp=XMP),
    "GIF": lambda: encode(PICTURE, "GIF", comment=SECRET),
    "BMP": lambda: encode(PICTURE, "BMP"),
    "TIFF": lambda: encode(PICTURE, "TIFF"),
    "AVIF": lambda: encode(PICTURE, "AVIF", exif=exif(6), xmp=XMP),
}


def _text() -> PngInfo:
    info = PngInfo()
    info.add_text("Comment", TEXT)
    return info


FILES = {name: make() for name, make in SMALL.items()}
NAMES = st.sampled_from(sorted(FILES))


def strip_or_refuse(data: bytes, name: str) -> bytes | None:
    try:
        return strip_metadata(data, name)
    except UnstrippableError:
        return None


@given(NAMES, st.data())
def test_a_torn_file_is_refused(name: str, data: st.DataObject) -> None:
    whole = FILES[name]
    kept = data.draw(st.integers(0, len(whole) - 1))
    found = strip_or_refuse(whole[:kept], name)
    if name in {"BMP", "TIFF"}:  # has no end of its own: only rows can be missing
        assert found is None or len(found) <= kept
    else:
        assert found is None


@given(
    NAMES,
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=6)), min_size=1, max_size=6),
)
def test_hostile_bytes_are_stripped_or_refused(name: str, changes: list[tuple[int, bytes]]) -> None:
    changed = bytearray(FILES[name])
    for number, written in changes:
        at = number % len(changed)
        changed[at : at + len(written)] = written
    hostile = bytes(changed)
    stripped, before = strip_or_refuse(hostile, name), stored(hostile)
    if stripped is not None and before is not None:
        after = stored(stripped)
        assert after is not None
        assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


@given(st.sampled_from(sorted(STRIPPERS)), st.binary(max_size=200))
def test_any_bytes_are_stripped_or_refused(name: str, data: bytes) -> None:
    start = FILES.get(name, FILES["AVIF"])[:12]
    strip_or_refuse(data, name)
    strip_or_refuse(start + data, name)


def _wide_tiff(kind: int, count: int) -> bytes:
    """Return a TIFF whose strips are said to be so many values of a type."""
    data = bytearray(encode(PICTURE, "TIFF"))
    first = int.from_bytes(data[4:8], "little")
    tags = [int.from_bytes(data[at : at + 2], "little") for at in range(first + 2, len(data) - 12, 12)]
    at = first + 2 + 12 * tags.index(273)
    data[at + 2 : at + 8] = struct.pack("<HI", kind, count)
    return bytes(data)


def _long_webp() -> bytes:
    chunks = b"note\0\0\0\0" * MANY
    data = encode(PICTURE, "WEBP", exif=exif(6))
    return data[:4] + (len(data) - 8 + len(chunks)).to_bytes(4, "little") + data[8:] + chunks


MANY = MAX_CHUNKS + 1
EMPTY = png_chunk(b"tEXt", b"")
HUGE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "chunks of a PNG": (
        "PNG",
        lambda: FILES["PNG"][:33] + png_chunk(b"tEXt", b"") * MANY + FILES["PNG"][33:],
    ),
    "chunks of a WebP": ("WEBP", _long_webp),
    "blocks of a GIF": ("GIF", lambda: FILES["GIF"][:-1] + b"\x21\xfe\0" * MANY + b";"),
    "values of no type": ("TIFF", lambda: _wide_tiff(99, 2**32 - 1)),
    "strips": ("TIFF", lambda: _wide_tiff(1, MANY) + bytes(MANY + 255)),
    "pages of a TIFF": (
        "TIFF",
        lambda: b"II*\0" + b"\x08\0\0\0" + b"\0\x10" + bytes(12 * 4096) + b"\x08\0\0\0",
    ),
    "boxes of an AVIF": ("AVIF", lambda: FILES["AVIF"] + box(b"free") * 100 + box(b"mdat", bytes(8))),
}


@pytest.mark.parametrize("what", sorted(HUGE))
def test_hostile_numbers_are_refused(what: str) -> None:
    name, make = HUGE[what]
    with pytest.raises(UnstrippableError):
        strip_metadata(make(), name)


def test_a_format_that_is_not_known_is_refused() -> None:
    with pytest.raises(UnstrippableError, match="PSD"):
        strip_metadata(b"8BPS", "PSD")
