"""What is in an archive is found, whole, in its order, whatever the format and the names."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import IO

import pytest
from backports import zstd

from clipmod_cli.sources.archives.items import open_input, read_archive
from tests.archives.making import (
    COMPRESS,
    GIF,
    TAR_END,
    TEXT,
    ZIP_METHODS,
    look_at,
    make_tar,
    make_zip,
    pax_record,
    picture,
    tar_entry,
)

LARGE = 700_000
"""Longer than some pieces of a stream."""

FILES = [
    ("b.gif", picture(1)),
    ("notes.txt", TEXT),
    ("deep/er/a.gif", picture(2) * LARGE),
    ("no-extension", picture(3)),
    ("empty.jpg", b""),
    ("words.png", TEXT),
]
WANTED = [(name, data) for name, data in FILES if name != "notes.txt"]


@pytest.mark.parametrize("method", ZIP_METHODS)
def test_a_zip(method: int, tmp_path: Path) -> None:
    seen = look_at(make_zip([*FILES[:2], *FILES[3:], ("folder/", b"")], method), tmp_path)
    assert seen.members == [*WANTED[:1], *WANTED[2:]]
    assert (seen.lost, seen.skipped) == ([], {"other type": 1})


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar(dialect: int, tmp_path: Path) -> None:
    seen = look_at(make_tar(FILES, dialect), tmp_path)
    assert seen.members == WANTED
    assert (seen.lost, seen.skipped) == ([], {"other type": 1})


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_compressed_tar(compression: str, tmp_path: Path) -> None:
    files = [*FILES[:2], *FILES[3:]]
    seen = look_at(COMPRESS[compression](make_tar(files)), tmp_path)
    assert seen.members == [*WANTED[:1], *WANTED[2:]]
    assert (seen.lost, seen.skipped) == ([], {"other type": 1})


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", ["photo.gif", "Photo"])
def test_a_compressed_picture_is_called_by_its_own_name(compression: str, name: str, tmp_path: Path) -> None:
    data = COMPRESS[compression](picture(1) * 9)
    assert look_at(data, tmp_path, name=f"{name}.{compression}").members == [(name, picture(1) * 9)]
    assert look_at(data, tmp_path, name=name).members == [(name, picture(1) * 9)]


@pytest.mark.parametrize("compression", COMPRESS)
def test_streams_that_follow_one_another_are_one(compression: str, tmp_path: Path) -> None:
    pack = COMPRESS[compression]
    data = pack(GIF) + pack(b"") + bytes(300_000) + pack(TEXT) + bytes(4)
    assert look_at(data, tmp_path).members == [("it", GIF + TEXT)]
    for rest in (b"no stream", bytes(9) + b"x"):
        seen = look_at(pack(GIF) + rest, tmp_path)
        assert (seen.members, [code for _, code in seen.lost]) == ([], ["archive_error"])


def test_skippable_frames_hide_nothing(tmp_path: Path) -> None:
    skippable = b"\x5f\x2a\x4d\x18\x04\0\0\0abcd"
    data = zstd.compress(GIF) + skippable + zstd.compress(TEXT)
    assert look_at(data, tmp_path).members == [("it", GIF + TEXT)]


def test_what_looks_like_a_tar_hides_no_further_stream(tmp_path: Path) -> None:
    # "ustar" where a tar has it, in the header of a gzip stream (its file name).
    second = COMPRESS["gz"](TEXT)
    second = b"\x1f\x8b\x08\x08" + second[4:10] + b"x" * 247 + b"ustar\0" + second[10:]
    assert look_at(COMPRESS["gz"](GIF) + second, tmp_path).members == [("it", GIF + TEXT)]


@pytest.mark.parametrize("name", ["many.cbz", "photo.jpg", "film.mp4", "notes.txt", "many"])
def test_an_archive_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    assert look_at(make_zip(FILES[:1]), tmp_path, name=name).members == WANTED[:1]
    assert look_at(make_tar(FILES[:1]), tmp_path, name=name).members == WANTED[:1]


@pytest.mark.parametrize("content", [b"", TEXT, GIF, b"PK", b"\x1f\x8b"])
def test_a_name_makes_no_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    assert open_input(str(tmp_path / "x.zip")).archive is None


@pytest.mark.parametrize("magic", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\0", b"Rar!\x1a\x07\1\0"])
def test_what_is_not_read_is_told(magic: bytes, tmp_path: Path) -> None:
    nested = look_at(make_zip([("a.gif", GIF), ("b", magic + bytes(99)), ("c.gif", GIF)]), tmp_path)
    assert (nested.names, nested.lost) == (["a.gif", "c.gif"], [("b", "unsupported_format")])
    assert "unpack it" in nested.said


def test_members_of_one_name_are_both_there(tmp_path: Path) -> None:
    twice = [("a.gif", picture(1)), ("a.gif", picture(2))]
    assert look_at(make_zip(twice), tmp_path).members == twice
    assert look_at(make_tar(twice), tmp_path).members == twice


STRANGE = [
    "/etc/passwd.gif",
    "../../up.gif",
    "C:\\win.gif",
    "two\nlines.gif",
    "a//b.gif",
    "é.gif",
    "\x1b[2J.gif",
]


def test_a_name_is_text_and_no_path(tmp_path: Path) -> None:
    files = [(name, GIF) for name in STRANGE]
    inside = tmp_path / "inside"
    inside.mkdir()
    assert look_at(make_zip(files), inside).names == STRANGE
    assert look_at(make_tar(files), inside).names == STRANGE
    assert [path.name for path in inside.iterdir()] == ["it"]
    assert list(tmp_path.iterdir()) == [inside]


@pytest.mark.parametrize(
    ("raw", "flagged", "name"),
    [
        (b"\x81.gif", False, "ü.gif"),
        ("ü.gif".encode(), False, "ü.gif"),
        ("ü.gif".encode(), True, "ü.gif"),
        (b"\xff.gif", True, "\udcff.gif"),
        (b"a.gif\0.txt", False, "a.gif"),
        (b"x" * 9000, False, "x" * 4096),
        (b"", False, ""),
    ],
)
def test_the_names_of_a_zip(raw: bytes, flagged: bool, name: str, tmp_path: Path) -> None:
    plain = b"n" * len(raw)
    data = bytearray(make_zip([(plain.decode(), GIF)]))
    data[30 : 30 + len(raw)] = raw
    at = data.index(b"PK\1\2")
    data[at + 46 : at + 46 + len(raw)] = raw
    data[at + 9] |= 8 * flagged
    assert look_at(bytes(data), tmp_path).names == [name]


def test_the_names_of_a_tar(tmp_path: Path) -> None:
    long = b"d/" * 700 + b"x.gif"
    data = (
        tar_entry(b"\xff.gif", data=GIF)
        + tar_entry(b"L", b"L", long + b"\0")
        + tar_entry(b"K", b"K", long)
        + tar_entry(b"short", data=GIF)
        + tar_entry(b"x", b"x", pax_record(b"comment", b"none") + pax_record(b"path", "ü.gif".encode()))
        + tar_entry(b"short", data=GIF)
        + tar_entry(b"g", b"g", pax_record(b"path", b"for-all.gif"))
        + tar_entry(b"one", data=GIF)
        + tar_entry(b"x", b"x", pax_record(b"path", b"own.gif") + bytes(7))
        + tar_entry(b"two", data=GIF)
        + TAR_END
    )
    seen = look_at(data, tmp_path)
    assert seen.names == ["\udcff.gif", long.decode(), "ü.gif", "for-all.gif", "own.gif"]
    assert not seen.lost


def test_sizes_of_every_spelling(tmp_path: Path) -> None:
    signed = bytearray(tar_entry(b"\xe9\xe9.gif", data=GIF))
    signed[148:156] = b"%06o\0 " % (int(signed[148:154], 8) - 2 * 256)
    data = (
        tar_entry(b"a.gif", data=GIF, size=b"\x80" + len(GIF).to_bytes(11, "big"))
        + tar_entry(b"b.gif", data=GIF, size=b"%10o \0" % len(GIF))
        + tar_entry(b"x", b"x", pax_record(b"size", b"%d" % len(GIF)))
        + tar_entry(b"c.gif", data=GIF, size=b"0")
        + bytes(signed)
        + tar_entry(b"e.gif", b"\0", GIF)
        + tar_entry(b"f.gif", b"7", GIF)
        + tar_entry(b"g.gif", b"Q", GIF)
        + TAR_END
    )
    seen = look_at(data, tmp_path)
    assert seen.members == [(f"{name}.gif", GIF) for name in ("a", "b", "c", "\udce9\udce9", "e", "f", "g")]
    assert not seen.lost


class Unseekable(io.BytesIO):
    """Takes a zip as a pipe does, so its sizes follow its data."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise io.UnsupportedOperation

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation


def test_a_zip_that_was_written_to_a_pipe(tmp_path: Path) -> None:
    buffer = Unseekable()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.gif", GIF)
        archive.writestr("b.gif", picture(2))
    assert look_at(buffer.getvalue(), tmp_path).members == [("a.gif", GIF), ("b.gif", picture(2))]


def test_a_zip_with_wide_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Everything larger than these needs zip64: sizes, offsets, and the number of entries.
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 5)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("a.gif", "b.gif"):
            with _open_wide(archive, name) as file:
                file.write(GIF)
    data = buffer.getvalue()
    assert b"PK\6\6" in data
    assert look_at(data, tmp_path).members == [("a.gif", GIF), ("b.gif", GIF)]


def _open_wide(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(name, "w", force_zip64=True)


def test_a_comment_confuses_nothing(tmp_path: Path) -> None:
    data = make_zip(FILES[:1], comment=b"PK\5\6 is how a directory ends; PK\1\2 begins one")
    assert look_at(data, tmp_path).members == WANTED[:1]


def test_it_is_lazy(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(make_zip([("a.gif", GIF), ("b.gif", GIF)]))
    archive = open_input(str(path)).archive
    assert archive is not None
    members = read_archive(archive)
    assert next(members).error is None
    path.write_bytes(b"")
    assert [one.error is None for one in members] == [False]
    archive.file.close()
