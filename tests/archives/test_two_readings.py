"""Archives that one program reads otherwise than another are reported; those that only look odd are not."""

from __future__ import annotations

import bz2
import gzip
import io
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.archives.making import (
    COMPRESS,
    GIF,
    TAR_END,
    TEXT,
    look_at,
    make_tar,
    make_zip,
    picture,
    tar_entry,
)

SHOWN, OTHER = picture(1), picture(2)
DEFERRED = 8
MORE = 0xFFFFFFFF


def local(
    name: bytes, data: bytes, *, flags: int = 0, method: int = 0, extra: bytes = b"", size: int | None = None
) -> bytes:
    """Return a stored entry: its local header and its content."""
    size = len(data) if size is None else size
    fixed = struct.pack(
        "<5H3L2H", 20, flags, method, 0, 33, zlib.crc32(data), size, size, len(name), len(extra)
    )
    return b"PK\3\4" + fixed + name + extra + data


def central(name: bytes, data: bytes, at: int, *, flags: int = 0, extra: bytes = b"") -> bytes:
    """Return an entry's record in the directory."""
    fixed = struct.pack(
        "<6H3L5H2L",
        20, 20, flags, 0, 0, 33, zlib.crc32(data), len(data), len(data), len(name), len(extra),
        0, 0, 0, 0, at,
    )  # fmt: skip
    return b"PK\1\2" + fixed + name + extra


def unicode_path(name: bytes, told: bytes) -> bytes:
    """Return the extra field of an entry with this name, by which it is extracted under another one."""
    return struct.pack("<HHBL", 0x7075, 5 + len(told), 1, zlib.crc32(name)) + told


def end(count: int, length: int, at: int, comment: bytes = b"") -> bytes:
    """Return an end record."""
    return b"PK\5\6" + struct.pack("<4H2LH", 0, 0, count, count, length, at, len(comment)) + comment


def end_64(
    count: int, length: int, at: int, place: int, *, told: int | None = None, private: bytes = b""
) -> bytes:
    """Return a zip64 end record at a place, with private data and its locator."""
    size = 44 + len(private)
    record = b"PK\6\6" + struct.pack("<Q2H2L4Q", size, 45, 45, 0, 0, count, count, length, at) + private
    return record + b"PK\6\7" + struct.pack("<LQL", 0, place if told is None else told, 1)


A, B = local(b"a.gif", SHOWN), local(b"b.gif", OTHER)
AT_A = central(b"a.gif", SHOWN, 0)
AT_B = central(b"b.gif", OTHER, len(A))
BOTH = A + B
PLAIN = A + AT_A + end(1, len(AT_A), len(A))


def listing(content: bytes, *records: bytes, tail: bytes = b"", comment: bytes = b"") -> bytes:
    """Return a zip with this content before a directory of these records."""
    directory = b"".join(records)
    return content + directory + end(len(records), len(directory), len(content), comment) + tail


TAR_A, TAR_B = make_tar([("a.gif", SHOWN)]), make_tar([("b.gif", OTHER)])
SPLIT = BOTH + AT_A + AT_B
TWO_READINGS = {
    "unlisted after": listing(BOTH, AT_A),
    "unlisted before": listing(B + A, central(b"a.gif", SHOWN, len(B))),
    "unlisted between": listing(A + B + local(b"c.gif", GIF), AT_A, central(b"c.gif", GIF, len(BOTH))),
    "unlisted with its sizes behind": listing(A + local(b"b.gif", OTHER, flags=DEFERRED, size=0), AT_A),
    "unlisted behind junk": listing(A + b"\0junk" * 99 + B, AT_A),
    "unlisted behind a stub": listing(b"MZ" + bytes(500) + B + A, central(b"a.gif", SHOWN, 502 + len(B))),
    "unlisted in an empty zip": B + end(0, 0, len(B)),
    "unlisted behind the end": PLAIN + B,
    "unlisted in the comment": listing(A, AT_A, comment=B),
    "two directories": listing(BOTH + AT_B, AT_A, tail=b""),
    "two directories, one before the place told": BOTH + AT_B + AT_A + end(1, len(AT_A), len(BOTH)),
    "two zips joined": PLAIN + PLAIN,
    "end in a comment": listing(
        BOTH, AT_A, comment=AT_B + end(1, len(AT_B), len(BOTH + AT_A) + 22)
    ),
    "another end behind the end": listing(BOTH, AT_A, AT_B, tail=end(1, len(AT_A), len(BOTH)) + b"junk"),
    "an end with too long a comment behind": listing(
        BOTH, AT_A, AT_B, tail=end(1, len(AT_A), len(BOTH))[:-2] + b"\xff\xff"
    ),
    "end records that differ in place": SPLIT
    + end_64(1, len(AT_B), len(BOTH + AT_A), len(SPLIT)) + end(1, len(AT_A), len(BOTH)),
    "end records that differ in count": SPLIT
    + end_64(2, len(AT_A + AT_B), len(BOTH), len(SPLIT)) + end(1, MORE, MORE),
    "counts of one end record that differ": SPLIT
    + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 1, 2, len(AT_A + AT_B), len(BOTH), 0),
    "an entry in the zip64 end record": A + AT_A
    + end_64(1, len(AT_A), len(A), len(A + AT_A), private=struct.pack("<HL", 5, len(B)) + B)
    + end(1, len(AT_A), len(A)),
    "another name": listing(local(b"b.gif", SHOWN), AT_A),
    "another size": listing(local(b"a.gif", SHOWN, size=3), AT_A),
    "another method": listing(local(b"a.gif", SHOWN, method=8), AT_A),
    "sizes said to follow": listing(local(b"a.gif", SHOWN, flags=DEFERRED), AT_A),
    "a text that is extracted as a picture": listing(
        local(b"a.txt", TEXT) + A, central(b"a.txt", TEXT, 0, extra=unicode_path(b"a.txt", b"a.tga")),
        central(b"a.gif", SHOWN, len(local(b"a.txt", TEXT)))
    ),
    "a text that is extracted as a picture, by its header": listing(
        local(b"a.txt", TEXT, extra=unicode_path(b"a.txt", b"a.tga")), central(b"a.txt", TEXT, 0)
    ),
    "a text in the directory only": listing(
        local(b"b.gif", OTHER), central(b"a.txt", OTHER[:0], 0)
    ),
    "a folder in the directory only": listing(local(b"b.gif/", OTHER), central(b"b.gif/", b"", 0)),
    "one entry twice": listing(A, AT_A, central(b"a.gif", SHOWN, 0)),
    "one tar behind another": TAR_A + TAR_B,
    "a tar behind one block of zeros": tar_entry(b"a.gif", data=SHOWN) + bytes(512)
    + tar_entry(b"b.gif", data=OTHER) + TAR_END,
    "junk behind a tar": tar_entry(b"a.gif", data=SHOWN) + TAR_END + bytes(90_000) + b"x",
    "two compressed tars": gzip.compress(TAR_A) + gzip.compress(TAR_B),
    "a bzip2 behind a gzip": gzip.compress(TAR_A) + bz2.compress(TAR_B),
    "a zip behind a gzip": gzip.compress(TAR_A) + PLAIN,
    "a picture behind a xz": COMPRESS["xz"](TAR_A) + OTHER,
}  # fmt: skip


@pytest.mark.parametrize("kind", TWO_READINGS)
def test_an_archive_that_programs_read_differently(kind: str, tmp_path: Path) -> None:
    seen = look_at(TWO_READINGS[kind], tmp_path)
    assert (None, "archive_error") in seen.lost


@pytest.mark.parametrize(
    "kind",
    [
        "two zips joined",
        "end in a comment",
        "another end behind the end",
        "end records that differ in place",
        "end records that differ in count",
        "a damaged zip64 end record",
        "a part of a split archive",
    ],
)
def test_a_self_extracting_one_that_programs_read_differently(kind: str, tmp_path: Path) -> None:
    seen = look_at(STUB + (TWO_READINGS | DAMAGED)[kind], tmp_path, name="setup.exe")
    assert (None, "archive_error") in seen.lost


DAMAGED = {
    "a damaged zip64 end record": SPLIT
    + end_64(1, len(AT_B), len(BOTH + AT_A), len(SPLIT)).replace(b"\x2c\0", b"\x2d\0", 1)
    + end(1, len(AT_A), len(BOTH)),
    "a part of a split archive": SPLIT + end(1, len(AT_B), len(BOTH + AT_A)).replace(b"\6\0", b"\6\1", 1),
}
STORED = local(b"a.gif", SHOWN)
DESCRIPTOR = struct.pack("<3L", zlib.crc32(SHOWN), len(SHOWN), len(SHOWN))
WIDE_DESCRIPTOR = struct.pack("<L2Q", zlib.crc32(SHOWN), len(SHOWN), len(SHOWN))
LATER = local(b"a.gif", SHOWN, flags=DEFERRED, size=0)
ALIGNED = local(b"a.gif", SHOWN, extra=bytes(3))
SIGNING_BLOCK = (
    struct.pack("<Q", 4096) + bytes(range(256)) * 15 + struct.pack("<Q", 4096) + b"APK Sig Block 42"
)
FILLER = local(b"", b"", extra=struct.pack("<2H", 0, 400) + bytes(400))
INNER = make_zip([("a.gif", SHOWN)], 0)
STUB = b"MZ" + bytes(range(256)) * 40 + b"PK\3\4 is what this program looks for, PK\1\2 too, PK\5\6 as well"

SOUND = {
    "plain": PLAIN,
    "a descriptor": listing(LATER + b"PK\7\x08" + DESCRIPTOR, AT_A),
    "a descriptor without signature": listing(LATER + DESCRIPTOR, AT_A),
    "a wide descriptor": listing(LATER + b"PK\7\x08" + WIDE_DESCRIPTOR, AT_A),
    "a descriptor beside sizes": listing(
        local(b"a.gif", SHOWN, flags=DEFERRED) + b"PK\7\x08" + DESCRIPTOR, AT_A
    ),
    "padding in the header": listing(ALIGNED, AT_A),
    "a gap of zeros": listing(bytes(3) + A + bytes(99), central(b"a.gif", SHOWN, 3)),
    "a name in Unicode": listing(
        A, central(b"a.gif", SHOWN, 0, extra=unicode_path(b"a.gif", "ä.GIF".encode()))
    ),
    "a name in Unicode without an extension": listing(
        local(b"?", SHOWN), central(b"?", SHOWN, 0, extra=unicode_path(b"?", "ä".encode()))
    ),
    "a filler entry": listing(A + FILLER, AT_A),
    "a signed package": listing(A + SIGNING_BLOCK, AT_A),
    "a self-extracting one": listing(STUB + A, central(b"a.gif", SHOWN, len(STUB))),
    "a self-extracting one that nobody adjusted": STUB + PLAIN,
    "a script before it": b"#!/usr/bin/env python3\n" + PLAIN,
    "a zip in a zip": make_zip([("i.zip", INNER)], 0),
    "a comment": listing(A, AT_A, comment=b"made by a program on 1 May"),
    "zeros behind": PLAIN + bytes(700),
    "a marked split": b"PK00" + listing(A, AT_A),
    "zip64, all marked": A + AT_A + end_64(1, len(AT_A), len(A), len(A + AT_A)) + end(0xFFFF, MORE, MORE),
    "zip64, all equal": A + AT_A + end_64(1, len(AT_A), len(A), len(A + AT_A)) + end(1, len(AT_A), len(A)),
    "zip64 with private data": A + AT_A
    + end_64(1, len(AT_A), len(A), len(A + AT_A), private=struct.pack("<HL", 5, 90) + bytes(90))
    + end(1, len(AT_A), len(A)),
    "a tar in blocks": make_tar([("a.gif", SHOWN)]) + bytes(10_240),
    "a tar cut into streams": b"".join(
        gzip.compress(make_tar([("a.gif", SHOWN)])[at : at + 700]) for at in range(0, 10_240, 700)
    ),
    "zeros behind a stream": gzip.compress(make_tar([("a.gif", SHOWN)])) + bytes(999),
}  # fmt: skip


@pytest.mark.parametrize("kind", SOUND)
def test_an_archive_that_only_looks_odd(kind: str, tmp_path: Path) -> None:
    seen = look_at(SOUND[kind], tmp_path)
    assert ([data for _, data in seen.members], seen.lost) == ([SHOWN], [])


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("compression", [None, *COMPRESS])
def test_what_python_writes_is_sound(dialect: int, compression: str | None, tmp_path: Path) -> None:
    data = make_tar([("ü" * 40 + ".gif", SHOWN), ("a.gif", OTHER)], dialect)
    seen = look_at(COMPRESS[compression](data) if compression else data, tmp_path)
    assert (len(seen.members), seen.lost) == (2, [])


@pytest.mark.skipif(not shutil.which("zip"), reason="needs the program zip")
def test_what_zip_writes_is_sound(tmp_path: Path) -> None:
    for name in ("ü.gif", ".b.gif", "c.txt"):
        (tmp_path / name).write_bytes(SHOWN * 900)
    for options in ((), ("-0",), ("-fd",), ("-fz",), ("-fz-",), ("-9", "-X")):
        target = tmp_path / "it.zip"
        subprocess.run(
            ["zip", "-q", *options, str(target), "ü.gif", ".b.gif", "c.txt"], cwd=tmp_path, check=True
        )
        seen = look_at(target.read_bytes(), tmp_path)
        assert (len(seen.members), seen.lost) == (3, []), options
        target.unlink()


def test_a_zip_that_was_appended_to_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for number in range(3):
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{number}.gif", picture(number))
            archive.mkdir(f"folder{number}")
    seen = look_at(path.read_bytes(), tmp_path)
    assert (len(seen.members), seen.lost) == (3, [])


def test_mac_metadata_is_counted_and_pictures_beside_it_are_inputs(tmp_path: Path) -> None:
    double = (
        b"\0\x05\x16\x07\0\2\0\0Mac OS X        \0\2\0\0\0\x09\0\0\0\x32\0\0\0\x20\0\0\0\2\0\0\0\x52\0\0\0\0"
    )
    hiding = double[:26] + b"\0\0\0\1" + double[30:]
    files = [
        ("a.gif", SHOWN), ("__MACOSX/._a.gif", double + bytes(32)), ("__MACOSX/b.gif", OTHER),
        (".DS_Store", b"\0\0\0\1Bud1" + bytes(90)), ("._c.gif", hiding + bytes(32)),
    ]  # fmt: skip
    for data in (make_zip(files), make_tar(files)):
        seen = look_at(data, tmp_path)
        assert seen.names == ["a.gif", "__MACOSX/b.gif"]
        assert seen.skipped == {"Mac metadata": 1, "other type": 1}
        assert seen.lost == [("._c.gif", "unsupported_format")]


def test_bytes_of_another_archive_in_a_stored_member_are_its_own(tmp_path: Path) -> None:
    data = make_zip([("a.txt", TEXT + INNER + TEXT), ("b.gif", SHOWN + INNER)], 0)
    assert look_at(data, tmp_path).lost == []
    buffer = io.BytesIO(data + b"\0")  # an end record that does not end the file
    assert look_at(buffer.getvalue(), tmp_path).lost == []
