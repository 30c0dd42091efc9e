"""What a file holds beside its own picture or film: all of it is found, and ordinary files hold nothing."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from clipmod_cli.decode.contents.finding import MAX_PARTS, find_contents, find_film_contents
from clipmod_cli.decode.contents.parts import Contents, Part
from clipmod_cli.decode.contents.resemblance import Likeness, is_excused
from clipmod_cli.decode.formats import load, sniff
from tests.decode.containers import (
    apng,
    archive,
    blue,
    cropped_film,
    cropped_matroska,
    denied_alpha,
    exif_with_raw_thumbnail,
    exif_with_thumbnail,
    film,
    jpeg,
    matroska_with_attachment,
    mpo,
    png_twice,
    png_with,
    red,
    retyped_matroska,
    riff,
    rle_bitmap,
    sound,
    tiff_with_a_tag_twice,
    tiff_with_sub_ifd,
    with_film_box,
    zip64,
)
from tests.decode.heif import Still, box, full, rename, write
from tests.decode.pictures import encode, png_chunk
from tests.decode.samples import MOVING, STILLS, photo

RED_JPEG, RED_PNG = jpeg(red()), encode(red(), "PNG")
BLUE_JPEG = jpeg(blue())
NO_END = BLUE_JPEG[:-2]
BLUE_PNG, BMP = encode(blue(), "PNG"), encode(blue(), "BMP")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NOISE = np.random.default_rng(1).integers(1, 256, 5000, dtype=np.uint8).tobytes()


def look(data: bytes) -> Contents:
    known = sniff(data)
    assert known is not None
    return find_contents(data, known)


def shown(data: bytes, part: Part) -> tuple[str, bool]:
    """Return (format, whether it shows the red circle) of a part; films are not looked at here."""
    found = part.read_from(lambda at, count: data[at : at + count])
    if part.format.kind != "picture":
        return part.format.name, True
    picture: Image.Image = load(part.format.open)(io.BytesIO(found))
    pixel = picture.convert("RGB").resize((3, 3)).getpixel((1, 1))
    assert isinstance(pixel, tuple)
    return part.format.name, pixel[0] > 150 > 2 * pixel[2]


def _meta(data: bytes) -> tuple[int, int]:
    """Return where the `meta` box of a file begins and ends."""
    at = data.index(b"meta") - 4
    return at, at + int.from_bytes(data[at : at + 4], "big")


def _moved(data: bytes, further: int) -> bytes:
    """Return a HEIC whose places of items are so many bytes further on."""
    moved = bytearray(data)
    places = moved.index(b"iloc") + 4 + 8
    count = int.from_bytes(moved[places - 2 : places], "big")
    for entry in range(places, places + 14 * count, 14):
        place = int.from_bytes(moved[entry + 6 : entry + 10], "big") + further
        moved[entry + 6 : entry + 10] = place.to_bytes(4, "big")
    return bytes(moved)


def _after_an_odd_box(data: bytes) -> bytes:
    """Return a HEIC whose `meta` begins with a box of a type that is no letters, which decoders skip."""
    odd = box(b"\1\2\3\4", bytes(4))
    start, end = _meta(data)
    return _moved(data[:start] + full(b"meta", odd, data[start + 12 : end]) + data[end:], len(odd))


RED: dict[str, tuple[bytes, list[str]]] = {
    "a JPEG behind a JPEG": (BLUE_JPEG + RED_JPEG, ["JPEG"]),
    "a junk byte between them": (BLUE_JPEG + b"x" + RED_JPEG, ["JPEG"]),
    "no end marker between them": (NO_END + RED_JPEG, ["JPEG"]),
    "zeros between them": (BLUE_JPEG + bytes(5000) + RED_JPEG, ["JPEG"]),
    "MPO": (mpo(BLUE_JPEG, RED_JPEG), ["JPEG"]),
    "MPO, declared as a preview": (mpo(BLUE_JPEG, RED_JPEG, kinds=(0x030000, 0x010002)), ["JPEG"]),
    "a third JPEG": (BLUE_JPEG + BLUE_JPEG + RED_JPEG, ["JPEG", "JPEG"]),
    "PNG behind": (BLUE_JPEG + b"?" + RED_PNG, ["PNG"]),
    "WebP behind": (BLUE_JPEG + b"abc" + encode(red(), "WEBP"), ["WEBP"]),
    "GIF behind": (BLUE_JPEG + encode(red(), "GIF"), ["GIF"]),
    "TIFF behind": (BLUE_JPEG + encode(red(), "TIFF"), ["TIFF"]),
    "HEIC behind": (BLUE_JPEG + write([Still(red())]), ["HEIF"]),
    "AVIF behind": (BLUE_JPEG + b"\0" + encode(red(), "AVIF"), ["AVIF"]),
    "a motion photo": (BLUE_JPEG + film(), ["MP4"]),
    "a motion photo without an end marker": (NO_END + film(), ["MP4"]),
    "a motion photo of another brand": (BLUE_JPEG + rename(film(), b"M4A "), ["MP4"]),
    "Samsung's trailer": (BLUE_JPEG + b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + film() + b"SEFT", ["MP4"]),
    "a film behind a film": (film("blue", "blue") + film(), ["MP4"]),
    "a JPEG behind a film": (film("blue") + RED_JPEG, ["JPEG"]),
    "a PNG behind a film": (film("blue") + RED_PNG, ["PNG"]),
    "a film within a film": (BLUE_JPEG + film("blue") + box(b"mdat", film()), ["MP4", "MP4"]),
    "a film in a free box": (BLUE_JPEG + film("blue") + box(b"free", b"junk" + film()), ["MP4", "MP4"]),
    "WebM behind": (BLUE_JPEG + film(form="webm", codec="libvpx"), ["MATROSKA"]),
    "AVI behind": (BLUE_JPEG + film(form="avi", codec="mpeg4"), ["AVI"]),
    "a JPEG behind a PNG": (BLUE_PNG + b"!" + RED_JPEG, ["JPEG"]),
    "a JPEG in a PNG's own chunk": (png_with(blue(), b"prVw", b"--" + RED_JPEG), ["JPEG"]),
    "a JPEG in a PNG's end": (BLUE_PNG[:-12] + png_chunk(b"IEND", RED_JPEG), ["JPEG"]),
    "a film behind a PNG": (BLUE_PNG + film(), ["MP4"]),
    "a GIF behind a GIF without an end": (encode(blue(), "GIF")[:-1] + encode(red(), "GIF"), ["GIF"]),
    "zeros between them, in place of the end": (
        encode(blue(), "GIF")[:-1] + bytes(30) + encode(red(), "GIF"),
        ["GIF"],
    ),
    "a JPEG behind a GIF": (encode(blue(), "GIF") + RED_JPEG, ["JPEG"]),
    "a JPEG behind a BMP": (BMP + RED_JPEG, ["JPEG"]),
    "a JPEG in front of a BMP's pixels": (
        BMP[:10] + struct.pack("<I", 54 + len(RED_JPEG)) + BMP[14:54] + RED_JPEG + BMP[54:], ["JPEG"]
    ),
    "a JPEG behind a BMP's runs, as declared": (
        rle_bitmap(blue(), declared=len(RED_JPEG)) + RED_JPEG, ["JPEG"]
    ),
    "a JPEG in a BMP's profile": (rle_bitmap(blue(), profile=SRGB + RED_JPEG), ["JPEG"]),
    "a JPEG in a BMP's profile of any length": (
        rle_bitmap(blue(), profile=struct.pack(">I", 100_000) + SRGB[4:] + RED_JPEG), ["JPEG"]
    ),
    "a JPEG behind a WebP": (encode(blue(), "WEBP") + RED_JPEG, ["JPEG"]),
    "a JPEG in a WebP's own chunk": (riff(encode(blue(), "WEBP"), b"junk", RED_JPEG), ["JPEG"]),
    "a JPEG behind a TIFF": (encode(blue(), "TIFF") + RED_JPEG, ["JPEG"]),
    "SubIFD": (tiff_with_sub_ifd(blue(), red()), ["TIFF"]),
    "EXIF thumbnail": (jpeg(blue(), (0xE1, exif_with_thumbnail(RED_JPEG))), ["JPEG"]),
    "raw EXIF thumbnail": (jpeg(blue(), (0xE1, exif_with_raw_thumbnail(red()))), ["TIFF"]),
    "EXIF thumbnail of a PNG": (png_with(blue(), b"eXIf", exif_with_thumbnail(RED_JPEG)[6:]), ["JPEG"]),
    "a comment": (jpeg(blue(), (0xFE, b"x" + RED_PNG)), ["PNG"]),
    "a film in a comment": (jpeg(blue(), (0xFE, b"x" + film())), ["MP4"]),
    "two pictures of a HEIC": (write([Still(blue()), Still(red())]), ["HEIF"]),
    "a hidden picture of a HEIC": (write([Still(blue()), Still(red(), hidden=True)]), ["HEIF"]),
    "two pictures behind an odd box": (_after_an_odd_box(write([Still(blue()), Still(red())])), ["HEIF"]),
    "a HEIC's thumbnail": (write([Still(blue()), Still(red(), b"thmb")]), ["HEIF"]),
    "a HEIC's auxiliary picture": (write([Still(blue()), Still(red(), b"auxl")]), ["HEIF"]),
    "two pictures of an AVIF": (write([Still(blue()), Still(red())], "AVIF"), ["AVIF"]),
    "an AVIF's thumbnail": (write([Still(blue()), Still(red(), b"thmb")], "AVIF"), ["AVIF"]),
    "a film in a HEIC": (with_film_box(b"mpvd", film()), ["MP4"]),
    "a film behind a HEIC": (write([Still(blue())]) + film(), ["MP4"]),
    "a JPEG in a HEIC": (with_film_box(b"uuid", bytes(16) + RED_JPEG), ["JPEG"]),
    "a film's tracks in a HEIC": (write([Still(blue())], film=film()), ["MP4"]),
    "a sequence in a HEIC": (write([Still(blue())], film=film().replace(b"vide", b"pict")), ["MP4"]),
    "a declared gain map in colour": (
        jpeg(blue(), (0xE1, b'<Item:Semantic>GainMap')) + jpeg(red(), (0xE1, b"hdrgm:Version")), ["JPEG"]
    ),
    "a film's tracks in an AVIF": (write([Still(blue())], "AVIF", film=film()), ["MP4"]),
    "a film beside a still": (write([Still(blue())], "AVIF", film=film(), brand=b"avis"), ["MP4"]),
    "pictures in a film": (write([Still(red())] * 2, film=film("blue"), brand=b"mp42"), ["HEIF", "HEIF"]),
    "an attachment": (matroska_with_attachment("a.jpg", "image/jpeg", RED_JPEG), ["JPEG"]),
    "an attachment that calls itself a font": (matroska_with_attachment("a.ttf", "x/font", RED_PNG), ["PNG"]),
    "an attached BMP": (matroska_with_attachment("a.ttf", "font/ttf", encode(red(), "BMP")), ["BMP"]),
    "a JPEG behind a Matroska film": (film("blue", form="matroska") + b"x" + RED_JPEG, ["JPEG"]),
    "a film behind a Matroska film": (film("blue", form="matroska") + film(form="matroska"), ["MATROSKA"]),
    "a JPEG behind an AVI": (film("blue", form="avi", codec="mpeg4") + RED_JPEG, ["JPEG"]),
    "a JPEG behind an ASF": (film("blue", form="asf", codec="wmv2") + RED_JPEG, ["JPEG"]),
}  # fmt: skip


@pytest.mark.parametrize("label", RED)
def test_a_red_circle_is_found(label: str) -> None:
    data, expected = RED[label]
    contents = look(data)
    assert sorted(part.format.name for part in contents.parts) == sorted(expected)
    found = [shown(data, part) for part in contents.parts]
    assert any(is_red for _, is_red in found)


PRIMARY = Likeness.of(np.asarray(blue()))


@pytest.mark.parametrize("label", RED)
def test_no_role_excuses_a_picture_that_shows_something_else(label: str) -> None:
    data, _ = RED[label]
    for part in look(data).parts:
        if part.format.kind == "picture" and shown(data, part)[1]:
            assert not is_excused(np.asarray(red()), part.role, PRIMARY)


def _with_in_meta(data: bytes, *more: bytes) -> bytes:
    """Return a HEIC with further boxes at the end of its `meta`; its items refer to the same bytes."""
    start, end = _meta(data)
    assert data.index(b"mdat") - 4 == end
    body = b"".join(more)
    return _moved(data[:start] + box(b"meta", data[start + 8 : end] + body) + data[end:], len(body))


def _with_items(count: int) -> bytes:
    """Return a HEIC whose second picture comes behind so many items without content."""
    data = write([Still(blue()), Still(red())])
    entry = full(b"infe", struct.pack(">HH", 2, 0) + b"hvc1\0", version=2)
    fillers = b"".join(
        full(b"infe", struct.pack(">HH", number, 0) + b"mime\0", version=2) for number in range(3, 3 + count)
    )
    start, _ = _meta(data)
    infos = data.index(b"iinf", start) - 4
    size = int.from_bytes(data[infos : infos + 4], "big")
    body = data[infos + 14 : infos + size].replace(entry, fillers + entry)
    other = full(b"iinf", struct.pack(">H", 2 + count), body)
    free = box(b"skip", bytes(size - 8))
    return _with_in_meta(data[:infos] + free + data[infos + size :], other)


def _in_pieces(count: int) -> bytes:
    """Return a HEIC whose first picture lies in so many pieces, all but one of them empty."""
    data = write([Still(blue()), Still(red())])
    places = data.index(b"iloc") - 4
    first, second = data[places + 16 : places + 30], data[places + 30 : places + 44]
    extents = first[6:] + (first[6:10] + bytes(4)) * (count - 1)
    body = b"\x44\0\0\2" + first[:4] + struct.pack(">H", count) + extents + second
    free = box(b"skip", bytes(36))
    return _with_in_meta(data[:places] + free + data[places + 44 :], full(b"iloc", body))


BLUE_HEIC = write([Still(blue())])
TWO_IN_HEIC = write([Still(blue()), Still(red())])

UNREAD: dict[str, bytes] = {
    "a second list of items": BLUE_HEIC + TWO_IN_HEIC[slice(*_meta(TWO_IN_HEIC))],
    "a second primary picture": _with_in_meta(TWO_IN_HEIC, full(b"pitm", struct.pack(">H", 2))),
    "a second list of places": _with_in_meta(TWO_IN_HEIC, full(b"iloc", b"\x44\0\0\0")),
    "an item of an unknown code": TWO_IN_HEIC.replace(b"\0\2\0\0hvc1", b"\0\2\0\0lhv1"),
    "two items of one number": TWO_IN_HEIC.replace(b"\0\2\0\0hvc1", b"\0\1\0\0hvc1"),
    "more items than are read": _with_items(4097),
    "more pieces of an item than are read": _in_pieces(257),
    "a long list of items": _with_in_meta(TWO_IN_HEIC, box(b"free", bytes(1 << 24))),
    "a zip behind a JPEG": BLUE_JPEG + archive(),
    "a junk byte before the zip": BLUE_JPEG + b"x" + archive(),
    "a zip and bytes behind it": BLUE_JPEG + archive() + b"bytes",
    "a zip in a comment that reaches to the end": b"",
    "a zip64 in a film's own box": film("blue") + box(b"free", zip64()),
    "a RAR behind a PNG": BLUE_PNG + b"Rar!\x1a\x07\x01\0" + bytes(100),
    "a RAR in a comment": jpeg(blue(), (0xFE, b"Rar!\x1a\x07\x01\0" + bytes(100))),
    "a 7-Zip archive behind a GIF": encode(blue(), "GIF") + b"7z\xbc\xaf\x27\x1c" + bytes(100),
    "a zip behind a film": film("blue") + archive(),
    "a JPEG over two segments": jpeg(
        blue(),
        (0xEB, b"JP1" + RED_JPEG[: len(RED_JPEG) * 2 // 3]),
        (0xEB, b"JP2" + RED_JPEG[len(RED_JPEG) * 2 // 3 :]),
    ),
    "a thumbnail of raw pixels": jpeg(blue(), (0xE0, b"JFXX\0\x13" + bytes([80, 80]) + red(80).tobytes())),
    "a thumbnail with a palette": jpeg(
        blue(), (0xE0, b"JFXX\0\x11" + bytes([80, 80]) + bytes(768 + 80 * 80))
    ),
    "an attached zip": matroska_with_attachment("a.ttf", "font/ttf", archive()),
    "a PDF": BLUE_JPEG + b"%PDF-1.4 and so on",
    "an SVG": BLUE_JPEG + b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "unknown bytes": BLUE_JPEG + NOISE,
    "unknown bytes and zeros": BLUE_PNG + bytes(100) + NOISE + bytes(100),
    "unknown bytes behind a film": film("blue") + NOISE,
    "an animation with more frames than it declares": apng(blue(), red(), declared=1),
    "a HEIC that is cut": write([Still(blue())], left=(32, 32)),
    "an AVIF that is cut": write([Still(blue())], "AVIF", left=(32, 32)),
    "a MOV that is cut": cropped_film((64, 96)),
    "a Matroska film that is cut": cropped_matroska(48),
    "runs beyond a BMP's rows": rle_bitmap(blue(), spill=b"\1"),
    "two films' tracks": film("blue") + film()[32:],
    "a track of pictures that is declared as subtitles": retyped_matroska(17),
    "a track of pictures that declares no type": retyped_matroska(0),
    "two palettes": png_twice(b"PLTE"),
    "transparency twice": png_twice(b"tRNS"),
    "alpha that a WebP's header denies": denied_alpha(lossless=False),
    "lossless alpha that a WebP's header denies": denied_alpha(lossless=True),
    "a TIFF with a tag twice": tiff_with_a_tag_twice(),
}


@pytest.mark.parametrize("label", UNREAD)
def test_what_is_not_decoded_is_known(label: str) -> None:
    data = UNREAD[label]
    if not data:
        packed = bytearray(archive())
        rest = BLUE_JPEG[2:]
        packed[-2:] = struct.pack("<H", len(rest))
        data = jpeg(blue(), (0xFE, bytes(packed)))
    assert look(data).unread


CONTROLS: dict[str, bytes] = {
    **{f"still {label}": data for label, data in STILLS.items()},
    **{f"moving {label}": data for label, data in MOVING.items() if label != "AVIF"},
    "zeros": BLUE_JPEG + bytes(100_000),
    "notes of a camera": BLUE_JPEG + NOISE[:4000],
    "BMP of runs": rle_bitmap(blue(), profile=SRGB),
    "line feed": BLUE_PNG + b"\n",
    "sound": BLUE_JPEG + sound(),
    "film": film("blue"),
    "film with sound's brand": rename(film("blue"), b"M4V "),
    "WebM": film("blue", form="webm", codec="libvpx"),
    "AVI": film("blue", form="avi", codec="mpeg4"),
    "ASF": film("blue", form="asf", codec="wmv2"),
    "FLV": film("blue", form="flv"),
    "a font": matroska_with_attachment("a.ttf", "font/ttf", b"\0\1\0\0" + NOISE),
    "opaque RGBA": encode(blue().convert("RGBA"), "PNG"),
    "profile": encode(blue(), "PNG", icc_profile=SRGB),
    "HEIC": write([Still(blue())]),
    "a HEIC that is cut a little": write([Still(blue())], left=(94, 95)),
    "a MOV that is cut a little": cropped_film((90, 96)),
    "a Matroska film that is cut a little": cropped_matroska(90),
    "TIFF pages": encode(blue(), "TIFF", save_all=True, append_images=[red()]),
    "whole APNG": apng(blue(), red(), declared=2),
}


@pytest.mark.parametrize("label", CONTROLS)
def test_an_ordinary_file_holds_nothing_else(label: str) -> None:
    assert look(CONTROLS[label]) == Contents()


EXCUSED: dict[str, bytes] = {
    "thumbnail": jpeg(photo(), (0xE1, exif_with_thumbnail(jpeg(photo().resize((48, 32)))))),
    "brighter thumbnail": jpeg(
        photo(), (0xE1, exif_with_thumbnail(jpeg(photo().resize((48, 32)).point(lambda v: v * 0.8 + 30))))
    ),
    "gain and depth maps": write(
        [Still(photo()), Still(red().convert("L"), b"auxl"), Still(blue().convert("L"), b"auxl", hidden=True)]
    ),
    "HEIC's thumbnail": write([Still(photo((192, 128))), Still(photo((192, 128)).resize((96, 64)), b"thmb")]),
    "gain map behind": jpeg(photo()) + jpeg(red().convert("L"), (0xE1, b'x hdrgm:Version="1.0"')),
    "declared depth map behind": jpeg(photo(), (0xE1, b'x <Container:Item Item:Semantic="DepthMap"/>'))
    + jpeg(red().convert("L")),
    "preview of an MPO": mpo(jpeg(photo()), jpeg(photo((48, 32))), kinds=(0x030000, 0x010001)),
    "still of a sequence": MOVING["AVIF"],
}


@pytest.mark.parametrize("label", EXCUSED)
def test_a_true_role_excuses(label: str) -> None:
    data = EXCUSED[label]
    known = sniff(data)
    assert known is not None
    primary = Likeness.of(np.asarray(load(known.open)(io.BytesIO(data)).convert("RGB")))
    contents = look(data)
    assert contents.parts
    assert not contents.unread
    for part in contents.parts:
        found = part.read_from(lambda at, count: data[at : at + count])
        pixels = np.asarray(load(part.format.open)(io.BytesIO(found)).convert("RGB"))
        assert is_excused(pixels, part.role, primary)


def test_a_thumbnail_with_bars_is_excused_and_one_with_an_inset_is_not() -> None:
    picture = photo((96, 64)).resize((480, 320))
    primary = Likeness.of(np.asarray(picture))
    barred = Image.new("RGB", (160, 160))
    barred.paste(picture.resize((160, 106)), (0, 27))
    assert is_excused(np.asarray(barred), "preview", primary)
    barred.paste(red(48), (56, 50))
    assert not is_excused(np.asarray(barred), "preview", primary)
    inset = picture.copy()
    inset.paste(red(), (0, 0))
    assert not is_excused(np.asarray(inset), "preview", primary)
    assert not is_excused(np.asarray(picture), None, primary)


def test_there_are_at_most_so_many_parts() -> None:
    contents = look(BLUE_JPEG + RED_JPEG * (MAX_PARTS + 1))
    assert len(contents.parts) == MAX_PARTS
    assert contents.unread


def test_a_film_is_read_by_offset(tmp_path: Path) -> None:
    data = film("blue") + b"x" + RED_JPEG
    path = tmp_path / "film.mp4"
    path.write_bytes(data)
    known = sniff(data)
    assert known is not None
    with path.open("rb") as file:

        def read(at: int, count: int) -> bytes:
            file.seek(at)
            return file.read(count)

        contents = find_film_contents(read, len(data), known)
    assert contents == look(data)
    assert [part.format.name for part in contents.parts] == ["JPEG"]
