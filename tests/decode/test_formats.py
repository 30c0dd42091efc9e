"""Formats are told by their bytes; a name counts only for what a folder's walk takes as an input."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest

from clipmod_cli.decode.formats import FORMATS, HEAD_BYTES, Format, kind_of, load, sniff
from tests.decode.pictures import encode, quarters


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", b"x")
    return buffer.getvalue()


def ftyp(major: bytes, *others: bytes) -> bytes:
    body = major + bytes(4) + b"".join(others)
    return (8 + len(body)).to_bytes(4, "big") + b"ftyp" + body


KNOWN = {
    **{name: encode(quarters(), name) for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")},
    "TIFF-big-endian": b"MM\0*" + bytes(20),
    "TIFF-big": encode(quarters(), "TIFF", big_tiff=True),
    "GIF87": b"GIF87a" + bytes(20),
    "AVIF-mif1": ftyp(b"mif1", b"mif1", b"avif"),
    "AVIF-sequence": ftyp(b"avis", b"avif"),
    "HEIF": ftyp(b"heic", b"mif1", b"heic"),
    "HEIF-mif1": ftyp(b"mif1", b"heic"),
    "MP4": ftyp(b"isom", b"avc1"),
    "MOV": ftyp(b"qt  "),
    "MOV-old": bytes(4) + b"moov" + bytes(20),
    "MATROSKA": b"\x1a\x45\xdf\xa3" + bytes(20),
    "AVI": b"RIFF\0\0\0\0AVI LIST",
    "FLV": b"FLV\x01\x05",
    "MPEG-TS": (b"\x47" + bytes(187)) * 4,
    "MPEG-TS-192": (bytes(4) + b"\x47" + bytes(187)) * 4,
    "MPEG-TS-204": (b"\x47" + bytes(203)) * 4,
    "MPEG-PS": b"\0\0\x01\xba" + bytes(20),
    "OGG": b"OggS\0\x02" + bytes(22) + b"\x80theora\3" + bytes(20),
    "OGG-second": b"OggS\0\x02" + bytes(22) + b"\1vorbis" + bytes(30) + b"OggS" + bytes(24) + b"OVP80",
    "ASF": bytes.fromhex("3026b2758e66cf11") + bytes(20),
    "ZIP": zipped(),
    "TAR": tar(),
    "GZIP": gzip.compress(b"x"),
    "BZIP2": bz2.compress(b"x"),
    "XZ": lzma.compress(b"x"),
    "ZSTD": b"\x28\xb5\x2f\xfd" + bytes(20),
}
"""By format; what follows a dash tells variants apart (except in the names that have one)."""


def found(data: bytes) -> Format:
    known = sniff(data[:HEAD_BYTES])
    assert known is not None
    return known


@pytest.mark.parametrize("label", KNOWN)
def test_a_format_is_known_by_its_first_bytes(label: str) -> None:
    expected = label[:7] if label.startswith("MPEG-") else label.partition("-")[0].removesuffix("87")
    assert found(KNOWN[label]).name == expected


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xd8",
        b"BMW builds cars, and this is a text",
        b"<html><body>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"8BPS\0\x01",
        b"<svg xmlns=",
        b"RIFF\0\0\0\0WAVEfmt ",
        ftyp(b"M4A ", b"mp42"),
        b"\x47" + bytes(600),
        b"OggS\0\x02" + bytes(22) + b"\1vorbis" + bytes(30),
        b"a text on \x80theora",
        bytes(1024),
    ],
)
def test_other_bytes_are_no_format(head: bytes) -> None:
    assert sniff(head) is None


@pytest.mark.parametrize(
    ("head", "name", "expected"),
    [
        (KNOWN["PNG"], "notes.txt", "picture"),
        (KNOWN["ZIP"], "picture.jpg", "archive"),
        (KNOWN["MP4"], "picture.jpg", "video"),
        (b"<html>", "picture.JPG", "picture"),
        (b"", "film.mkv", "video"),
        (b"", "a.tar.gz", "archive"),
        (b"", "folder/a.b/c.heic", "picture"),
        (b"import x", "code.ts", None),
        (b"text", "notes.txt", None),
        (b"text", "jpg", None),
        (b"text", "", None),
    ],
)
def test_content_counts_before_the_name(head: bytes, name: str, expected: str | None) -> None:
    assert kind_of(head, name) == expected


def test_each_known_format_has_a_class() -> None:
    classes = {label: found(data).kind for label, data in KNOWN.items()}
    assert {label for label, kind in classes.items() if kind == "archive"} == {
        "ZIP", "TAR", "GZIP", "BZIP2", "XZ", "ZSTD",
    }  # fmt: skip
    assert {label for label, kind in classes.items() if kind == "video"} == {
        "MP4", "MOV", "MOV-old", "MATROSKA", "AVI", "FLV", "MPEG-TS", "MPEG-TS-192", "MPEG-TS-204",
        "MPEG-PS", "ASF", "OGG", "OGG-second",
    }  # fmt: skip


def test_the_table_is_whole() -> None:
    assert len({known.name for known in FORMATS}) == len(FORMATS)
    extensions = [extension for known in FORMATS for extension in known.extensions]
    assert len(set(extensions)) == len(extensions)
    for known in FORMATS:
        assert known.extension
        if known.kind == "picture":
            assert known.mime.startswith("image/")
        for dotted in (known.timeline, known.mend):
            assert dotted is None or callable(load(dotted))
