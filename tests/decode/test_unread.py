"""Formats that are not read are known by their signature or their name, and nothing else is."""

from __future__ import annotations

import io
import lzma

import pytest
from PIL import Image

from clipmod_cli.decode.formats import FORMATS, sniff
from clipmod_cli.decode.unread import (
    UNREAD,
    UNREAD_HEAD_BYTES,
    is_media_name,
    sniff_unread,
    unread_format,
)
from tests.decode.test_formats import KNOWN


def drawn(kind: str) -> bytes:
    """Return a small picture of one of Pillow's formats."""
    out = io.BytesIO()
    Image.new("1" if kind == "XBM" else "RGB", (40, 40)).save(out, kind)
    return out.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
DISC = b"\0" * 32_769 + b"CD001\1\0"
SIGNED: dict[str, bytes] = {
    "JPEG XL": b"\xff\x0a\xfa\x1f",
    "JPEG XL container": b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ",
    "JPEG 2000": drawn("JPEG2000"),
    "JPEG 2000 codestream": b"\xff\x4f\xff\x51\0\x2f",
    "SVG": SVG,
    "SVG, declared": b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made by -->\n'
    b'<!DOCTYPE svg [ <!ENTITY a "<b>"> ]>\n' + SVG,
    "SVG, prefixed": b'<?xml version="1.0"?><?a b?><s:svg xmlns:s="http://www.w3.org/2000/svg"/>',
    "SVG, wide": SVG.decode().encode("utf-16"),
    "SVG, wide and bare": SVG.decode().encode("utf-16-be"),
    "ICO": drawn("ICO"),
    "ICO, cursor": b"\0\0\2\0\1\0\x20\x20\0\0\1\0\1\0\xa8\x08\0\0\x16\0\0\0",
    "ICNS": drawn("ICNS"),
    "PSD": b"8BPS\0\1" + bytes(20),
    "PSD, large": b"8BPS\0\2" + bytes(20),
    "PNM": drawn("PPM"),
    "PNM, text": b"P3\n# by hand\n1 1 255 0 0 0",
    "XBM": drawn("XBM"),
    "PCX": drawn("PCX"),
    "DDS": drawn("DDS"),
    "SGI": drawn("SGI"),
    "EPS": drawn("EPS"),
    "OpenEXR": b"\x76\x2f\x31\x01\2\0\0\0",
    "EMF": b"\1\0\0\0\x6c\0\0\0" + bytes(32) + b" EMF",
    "DICOM": bytes(128) + b"DICM",
    "QOI": b"qoif" + bytes(10),
    "IVF": b"DKIF\0\0\x20\0VP80",
    "MXF": b"\x06\x0e\x2b\x34\2\5\1\1",
    "raw H.264": b"\0\0\0\1\x67\x42\0\x1e",
    "raw H.264, short code": b"\0\0\1\x27\x64\0\x1f",
    "raw H.264, behind zeros": b"\0\0\0\0\0\1\x67\x42\0\x1e",
    "raw H.264, delimited": b"\0\0\0\1\x09\xf0\0\0\0\1\x67",
    "raw H.264, from x264": b"\0\0\1\x06\x05\xff\xff",
    "raw H.265": b"\0\0\0\1\x40\1\x0c\1",
    "raw H.266": b"\0\0\0\1\0\x79\0\x0d",
    "raw MPEG video": b"\0\0\1\xb3\x14\0\xf0\x24",
    "raw MPEG video, MPEG-4": b"\0\0\1\xb0\1\0\0\1\xb5\x09",
    "raw AV1": b"\x12\0\x0a\x0b\0\0\0\x24",
    "YUV4MPEG": b"YUV4MPEG2 W640 H480",
    "RealMedia": b".RMF\0\0\0\x12",
    "Flash": b"CWS\x0a" + bytes(20),
    "FLIC": b"\0\1\0\0\x12\xaf",
    "7z": b"7z\xbc\xaf\x27\x1c\0\4",
    "RAR": b"Rar!\x1a\x07\0",
    "RAR, fifth": b"Rar!\x1a\x07\1\0",
    "cab": b"MSCF\0\0\0\0" + bytes(20),
    "lz4": b"\x04\x22\x4d\x18\x64\x40",
    "lz4, legacy": b"\x02\x21\x4c\x18" + bytes(4),
    "lzip": b"LZIP\1\x0c",
    "lzma": lzma.compress(b"x" * 99, lzma.FORMAT_ALONE),
    "compress": b"\x1f\x9d\x90",
    "cpio": b"070701" + b"0" * 104,
    "cpio, binary": b"\xc7\x71" + bytes(24),
    "ar": b"!<arch>\n",
    "RPM": b"\xed\xab\xee\xdb\3\0",
    "xar": b"xar!\0\x1c\0\1",
    "ARJ": b"\x60\xea\x2b\0\x1e\x0b\1",
    "LHA": b"\x22\x0a-lh5-",
    "uuencode": b"begin 644 a.jpg\n",
    "disk image": DISC,
    "disk image, UDF": bytes(32_769) + b"BEA01\1\0",
    "disk image, raw sectors": b"\0" + b"\xff" * 10 + b"\0\0\2\0\1",
    "disk image, squashfs": b"hsqs" + bytes(90),
    "disk image, FAT": b"\xeb\x3c\x90mkfs.fat" + bytes(43) + b"FAT16   ",
    "disk image, partitions": bytes(446) + b"\x80" + bytes(63) + b"\x55\xaa",
    "disk image, ext4": bytes(1080) + b"\x53\xef\1\0\1\0",
    "disk image, qcow2": b"QFI\xfb\0\0\0\3",
    "Wim": b"MSWIM\0\0\0\xd0",
}  # fmt: skip


@pytest.mark.parametrize("label", SIGNED)
def test_a_signature_is_known_whatever_the_name(label: str) -> None:
    data = SIGNED[label]
    found = unread_format(data[:UNREAD_HEAD_BYTES], "notes.txt")
    assert found is not None
    assert found.name == label.partition(",")[0].removesuffix(" container").removesuffix(" codestream")
    assert found.error().code == "unsupported_format"
    assert sniff(data) is None


@pytest.mark.parametrize(
    ("tail", "name"), [(b"TRUEVISION-XFILE.\0", "TGA"), (b"koly" + bytes(508), "disk image")]
)
def test_a_signature_at_the_end(tail: bytes, name: str) -> None:
    found = sniff_unread(bytes(999), tail.rjust(512, b"x"))
    assert found is not None
    assert found.name == name
    assert sniff_unread(bytes(999), tail.ljust(600, b"x")[-512:]) is None


@pytest.mark.parametrize(
    "name",
    [
        "a.jxl", "a.JP2", "a.svgz", "a.tga", "a.cur", "a.cr3", "a.h264", "a.265", "a.y4m", "a.rmvb", "a.swf",
        "a.7z", "a.tar.lz4", "a.lzma", "a.jpg.Z", "a.br", "a.iso", "a.dmg", "a.vhdx", "a.deb", "a.cpio",
    ],
)  # fmt: skip
def test_an_extension_is_known_whatever_the_bytes(name: str) -> None:
    found = unread_format(b"any bytes", name)
    assert found is not None
    assert found.counted_as is None
    assert is_media_name(name)
    assert unread_format(b"", name) is None  # nothing to see


@pytest.mark.parametrize(
    ("head", "name", "reason"),
    [
        (b"%PDF-1.7", "a", "document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a.bin", "document"),
        (b"bytes", "a.docx", "document"),
        (b"\0\x05\x16\x07\0\2\0\0" + bytes(16) + b"\0\1\0\0\0\x09" + bytes(90), "._a.jpg", "Mac metadata"),
    ],
)
def test_what_is_only_counted(head: bytes, name: str, reason: str) -> None:
    found = unread_format(head, name)
    assert found is not None
    assert found.counted_as == reason


@pytest.mark.parametrize("name", ["a.jpg", "a.jxl", "a.MP4", "a.zip", "a.7z"])
@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"%PDF-1.7", "document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "document"),
        (b"\0\x05\x16\x07\0\2\0\0" + bytes(16) + b"\0\1\0\0\0\x09" + bytes(90), "AppleDouble"),
    ],
)
def test_what_is_counted_gets_a_record_if_it_is_named_as_media(head: bytes, told: str, name: str) -> None:
    found = unread_format(head, name)
    assert found is not None
    assert found.counted_as is None
    assert told in found.error().message


@pytest.mark.parametrize(
    "head",
    [
        b"text", b"P1 is what he says", b"<html><body><svg></svg>", b"<?xml version='1.0'?><rss/>",
        b"\0\0\0\1Bud1" + bytes(90), b"begin the day", b"#define WIDTH 3", b"BIKES", b"FORM letter",
        bytes(40_000), b"\x7fELF" + bytes(1000), b"MZ" + bytes(1000), b"\xca\xfe\xba\xbe" + bytes(99),
        b"<" * 36_000, b"<!--" * 9_000, b"<?" * 18_000, b"<!DOCTYPE[" * 3_600, b" " * 36_000, b"/*" * 18_000,
    ],
)  # fmt: skip
def test_other_bytes_are_none(head: bytes) -> None:
    assert unread_format(head, "notes.txt") is None


@pytest.mark.parametrize("label", KNOWN)
def test_the_extension_of_a_format_that_is_read_is_no_other(label: str) -> None:
    known = sniff(KNOWN[label])
    assert known is not None
    assert all(unread_format(b"text", f"a.{extension}") is None for extension in known.extensions)


def test_the_two_tables_are_apart() -> None:
    names = [known.name for known in UNREAD]
    assert len(set(names)) == len(names)
    read = {extension for known in FORMATS for extension in known.extensions}
    assert not read & {extension for known in UNREAD for extension in known.extensions}
    assert not is_media_name("a.pdf")
    assert not is_media_name("notes.txt")
    assert is_media_name("a.JPG")
