"""What cannot be had is told, once; what can be is had all the same."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from clipmod_cli.sources.archives import streams
from tests.archives.making import (
    COMPRESS,
    GIF,
    TAR_END,
    TEXT,
    Seen,
    look_at,
    make_tar,
    make_zip,
    pax_record,
    picture,
    sealed,
    tar_entry,
)

THREE = [("a.gif", picture(1)), ("b.gif", picture(2)), ("c.gif", picture(3))]
HOLES_NAME = b"GNU.sparse.name"
FLAGS, METHOD, CRC, PACKED, SIZE, ATTRIBUTES, OFFSET = 8, 10, 16, 20, 24, 38, 42
"""Where the fields of a directory's record are."""


def records_of(data: bytes) -> list[int]:
    """Return where the records of a zip's directory begin."""
    at, found = data.find(b"PK\1\2"), []
    while at >= 0:
        found.append(at)
        at = data.find(b"PK\1\2", at + 1)
    return found


def changed(data: bytes, at: int, new: bytes) -> bytes:
    """Return the bytes with some of them replaced."""
    return data[:at] + new + data[at + len(new) :]


def with_second(field: int, new: bytes, method: int = 8) -> bytes:
    """Return a zip of three whose second record is changed."""
    data = make_zip(THREE, method)
    return changed(data, records_of(data)[1] + field, new)


def check_second(seen: Seen, code: str, *, differs: bool = False) -> None:
    """The second member is lost with this code, and the others are there.

    `differs`: its record in the directory differs from its header, so the archive is reported too.
    """
    assert seen.lost == [("b.gif", code), *[(None, "archive_error")] * differs]
    assert seen.members == [THREE[0], THREE[2]]


@pytest.mark.parametrize(
    ("field", "new", "code", "said"),
    [
        (FLAGS, b"\x01", "encrypted", "password"),
        (METHOD, b"\x63\0", "encrypted", "password"),
        (METHOD, b"\x09\0", "archive_error", "method 9"),
        (METHOD, b"\x5f\0", "archive_error", "method 95"),
        (CRC, b"\0\0\0\0", "archive_error", "checksum"),
        (SIZE, b"\x02\0\0\0", "archive_error", "longer than the 2 bytes"),
        (SIZE, b"\xff\0\0\0", "archive_error", "of 255 bytes"),
        (SIZE, b"\0\0\0\x7f", "archive_error", "of 2,130,706,432 bytes"),
        (PACKED, b"\x03\0\0\0", "archive_error", "ends after"),
        (PACKED, b"\0\0\0\x7f", "archive_error", "truncated"),
        (OFFSET, b"\x02\0\0\0", "archive_error", "not at the offset"),
        (OFFSET, b"\0\0\0\x7f", "archive_error", "not at the offset"),
    ],
)
def test_a_bad_member_costs_itself(field: int, new: bytes, code: str, said: str, tmp_path: Path) -> None:
    seen = look_at(with_second(field, new), tmp_path)
    check_second(seen, code, differs=field != FLAGS)
    assert said in seen.said


@pytest.mark.parametrize(("method", "at"), [(0, 3), (8, 1), (12, 1), (14, 4), (14, 12), (93, 1)])
def test_damaged_bytes_are_not_judged(method: int, at: int, tmp_path: Path) -> None:
    data = make_zip(THREE, method)
    start = data.index(b"b.gif") + len(b"b.gif") + at
    check_second(look_at(changed(data, start, b"\xfe\xfe\xfe"), tmp_path), "archive_error")


def test_a_member_that_calls_itself_encrypted_only_where_it_stands(tmp_path: Path) -> None:
    data = make_zip(THREE)
    local = data.index(b"b.gif") - 30
    check_second(look_at(changed(data, local + 6, b"\x01"), tmp_path), "encrypted")


def test_what_hides_its_content_might_be_a_picture(tmp_path: Path) -> None:
    data = make_zip([("secret", TEXT), ("words.txt", TEXT), (".hidden", TEXT)])
    for at in records_of(data):
        data = changed(data, at + FLAGS, b"\x01")
    assert look_at(data, tmp_path).lost == [
        (name, "encrypted") for name in ("secret", "words.txt", ".hidden")
    ]


def test_an_lzma_member_that_wants_much_memory(tmp_path: Path) -> None:
    data = make_zip(THREE, 14)
    dictionary = data.index(b"b.gif") + len(b"b.gif") + 5
    check_second(look_at(changed(data, dictionary, b"\0\0\0\xf0"), tmp_path), "archive_limit")


def test_a_link_in_a_zip_is_judged_if_it_is_a_picture(tmp_path: Path) -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (("to-nowhere.gif", b"target"), ("evading.gif", GIF)):
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, data)
    seen = look_at(buffer.getvalue(), tmp_path)
    assert (seen.names, seen.lost, seen.skipped) == (["evading.gif"], [], {"link": 1})


def test_a_folder_with_content_hides_nothing(tmp_path: Path) -> None:
    data = make_zip([("a.gif_", GIF)]).replace(b"a.gif_", b"a.gif/")
    assert look_at(data, tmp_path).names == ["a.gif/"]


def directory_of(data: bytes) -> int:
    return records_of(data)[0]


@pytest.mark.parametrize(
    ("damage", "names", "said"),
    [
        (lambda z: z[: directory_of(z)], [], "no directory"),
        (lambda z: z[:-5], [], "no directory"),
        (lambda z: z[:100], [], "no directory"),
        (lambda z: z[:4] + b"PK\5\6", [], "no directory"),
        (lambda z: changed(z, records_of(z)[2], b"PX"), ["a.gif", "b.gif"], "directory is damaged"),
        (lambda z: changed(z, records_of(z)[1] + 28, b"\xff\xff"), ["a.gif"], "directory is damaged"),
        (lambda z: changed(z, len(z) - 18, b"\x01\0"), [], "split"),
        (lambda z: changed(z, len(z) - 12, b"\x04\0"), ["a.gif", "b.gif", "c.gif"], "3 of 4 entries"),
        (lambda z: changed(z, len(z) - 12, b"\x02\0"), ["a.gif", "b.gif", "c.gif"], "3 of 2 entries"),
        (lambda z: changed(z, len(z) - 6, b"\xff\xff\xff\x7f"), [], "outside"),
        (lambda z: changed(z, len(z) - 10, b"\xff\xff\xff\x7f"), [], "outside"),
        (lambda z: changed(z, len(z) - 12, bytes(10)), [], "0 of 3 entries"),
        (lambda z: changed(z, len(z) - 12, struct.pack("<HLL", 0, 0, len(z) - 22)), [], "0 of 3 entries"),
        (lambda z: changed(z, len(z) - 14, bytes(12)), [], "an entry at byte 0"),
    ],
)
def test_a_broken_directory_costs_what_follows(
    damage: Callable[[bytes], bytes], names: list[str], said: str, tmp_path: Path
) -> None:
    seen = look_at(damage(make_zip(THREE)), tmp_path)
    assert seen.names == names
    assert seen.lost == [(None, "archive_error")]
    assert said in seen.said


def test_a_zip64_end_that_is_none(tmp_path: Path) -> None:
    data = make_zip(THREE)
    locator = b"PK\6\7" + struct.pack("<LQL", 0, 0, 1)
    seen = look_at(data[:-22] + bytes(56) + locator + data[-22:], tmp_path)
    assert seen.lost == [(None, "archive_error")]
    assert "zip64" in seen.said


def test_a_zip_in_a_cut_zip_does_not_pass_for_the_whole(tmp_path: Path) -> None:
    inner = make_zip(THREE[:2])
    outer = make_zip([("inner.zip", inner), THREE[2]], 0)
    for end in (outer.index(inner) + len(inner), outer.index(THREE[2][1])):
        seen = look_at(outer[:end], tmp_path)
        assert seen.members == THREE[:2]
        assert seen.lost == [(None, "archive_error")]
        assert "an entry at byte 0" in seen.said


def test_an_empty_zip_holds_nothing(tmp_path: Path) -> None:
    assert look_at(make_zip([]), tmp_path) == Seen([], Counter())


@pytest.mark.parametrize("length", [300, 512, 513, 1024, 1024 + 3, 2 * 1024 + 512, 2 * 1024 + 700, 3 * 1024])
@pytest.mark.parametrize("compression", [None, "gz", "xz"])
def test_a_cut_tar_keeps_what_came_before(length: int, compression: str | None, tmp_path: Path) -> None:
    cut = make_tar(THREE)[:length]
    seen = look_at(COMPRESS[compression](cut) if compression else cut, tmp_path)
    # Each member takes a block for its header and one for its content.
    whole = [file for i, file in enumerate(THREE) if length >= 1024 * i + 512 + len(file[1])]
    assert seen.members == whole
    assert seen.lost == [(None, "archive_error")]


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_cut_stream_keeps_what_came_before(compression: str, tmp_path: Path) -> None:
    noise = os.urandom(2_000_000)
    whole = COMPRESS[compression](make_tar([("a.gif", GIF), ("b.gif", GIF + noise)]))
    seen = look_at(whole[: len(whole) * 2 // 3], tmp_path)
    assert seen.names == ["a.gif"]
    assert seen.lost == [(None, "archive_error")]


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_cut_picture_is_not_judged(compression: str, tmp_path: Path) -> None:
    whole = COMPRESS[compression](GIF + os.urandom(300_000))
    for cut in (len(whole) - 1, len(whole) // 2):
        seen = look_at(whole[:cut], tmp_path, name=f"a.gif.{compression}")
        assert not seen.members
        assert [code for _, code in seen.lost] == ["archive_error"]
    if compression != "zst":  # whose checksum is optional
        assert look_at(changed(whole, len(whole) - 3, b"\1\2\3"), tmp_path).members == []


def test_a_tar_without_its_end_mark_may_have_been_cut(tmp_path: Path) -> None:
    entry = tar_entry(b"a.gif", data=GIF)
    seen = look_at(entry, tmp_path)
    assert (seen.names, seen.lost) == (["a.gif"], [(None, "archive_error")])
    assert not look_at(entry + bytes(512), tmp_path).lost


@pytest.mark.parametrize(
    "bad",
    [
        tar_entry(b"b.gif", data=GIF)[:150] + b"9" + tar_entry(b"b.gif", data=GIF)[151:],
        tar_entry(b"b.gif", data=GIF, size=b"-1"),
        tar_entry(b"b.gif", data=GIF, size=b"0x11"),
        tar_entry(b"b.gif", data=GIF, size=b"\xff" * 12),
        tar_entry(b"b.gif", data=GIF, size=b"\x80" + b"\x7f" * 11),
        tar_entry(b"b.gif/", b"5", GIF),
        tar_entry(b"b.gif/", b"\0", GIF),
        tar_entry(b"b.gif", b"3", GIF),
        tar_entry(b"b.gif", b"V", GIF),
        tar_entry(b"x", b"x", b"no length"),
        tar_entry(b"x", b"x", b"99 path=a\n"),
        tar_entry(b"x", b"x", b"2 path=a\n"),
        tar_entry(b"x", b"x", b"0 path=a\n"),
        tar_entry(b"x", b"x", pax_record(b"size", b"many")) + tar_entry(b"b.gif", data=GIF),
        tar_entry(b"x", b"x", b"", size=b"777"),
    ],
)  # fmt: skip
def test_a_bad_header_ends_a_tar(bad: bytes, tmp_path: Path) -> None:
    data = tar_entry(b"a.gif", data=GIF) + bad + tar_entry(b"c.gif", data=GIF)[:40]
    seen = look_at(data, tmp_path)
    assert seen.names == ["a.gif"]
    assert seen.lost == [(None, "archive_error")]


def test_links_and_devices_are_counted(tmp_path: Path) -> None:
    kinds = {b"1": "link", b"2": "link", b"3": "other type", b"4": "other type", b"6": "other type"}
    entries = b"".join(tar_entry(b"x.gif", kind) for kind in kinds)
    # Some programs write the size of what a link points to, but not its content.
    entries += tar_entry(b"x.gif", b"1", size=b"777")
    entries += tar_entry(b"folder/", b"5") + tar_entry(b"label", b"V")
    seen = look_at(entries + tar_entry(b"last.gif", data=GIF) + TAR_END, tmp_path)
    assert (seen.names, seen.lost) == (["last.gif"], [])
    assert seen.skipped == {"link": 3, "other type": 3}


def test_files_without_their_holes_are_told(tmp_path: Path) -> None:
    old = bytearray(tar_entry(b"old", b"S", GIF))
    old[482] = 1
    more = bytearray(512)
    more[504] = 1
    data = (
        sealed(old[:512]) + bytes(more) + bytes(512) + bytes(old[512:])
        + tar_entry(b"x", b"x", pax_record(b"GNU.sparse.major", b"1") + pax_record(HOLES_NAME, b"new"))
        + tar_entry(b"GNUSparse", data=GIF)
        + tar_entry(b"last.gif", data=GIF)
        + TAR_END
    )  # fmt: skip
    seen = look_at(data, tmp_path)
    assert seen.lost == [("old", "archive_error"), ("new", "archive_error")]
    assert (seen.names, "sparse" in seen.said) == (["last.gif"], True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(5, "Input/output error"), "read_error"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("nobody thought of this"), "internal_error"),
    ],
)
def test_whatever_goes_wrong_is_one_failure(
    error: Exception, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(streams.FileWindow, "read", fail)
    assert look_at(make_tar(THREE), tmp_path).lost == [(None, code)]
