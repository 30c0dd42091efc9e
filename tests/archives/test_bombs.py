"""Archives that were made to cost much cost little, and are told."""

from __future__ import annotations

import io
import lzma
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from clipmod_cli.sources.archives import limits as archive_limits
from clipmod_cli.sources.archives.items import open_input, read_archive
from clipmod_cli.sources.archives.limits import ArchiveLimits
from tests.archives.making import (
    COMPRESS,
    GIF,
    TAR_END,
    look,
    look_at,
    make_tar,
    make_zip,
    picture,
    tar_entry,
)
from tests.archives.quines import gzip_quine, zip_quine

MB = 1_000_000
PEAK_BYTES = 60 * MB
"""Twice what decompresses at once, and far less than any of these bombs holds."""


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Assert that little memory is taken meanwhile."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < PEAK_BYTES
    finally:
        tracemalloc.stop()


def zeros(megabytes: int) -> bytes:
    """Return a gzip stream of a picture's beginning and then zeros."""
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(GIF), *(packer.compress(bytes(MB)) for _ in range(megabytes)), packer.flush()]
    return b"".join(parts)


def zstd_zeros(blocks: int) -> bytes:
    """Return a zstd frame of a picture's beginning and then blocks of 128 KiB, four bytes each."""
    raw = (len(GIF) << 3).to_bytes(3, "little") + GIF
    again = (1 << 1 | 1 << 17 << 3).to_bytes(3, "little") + b"\0"
    last = (1 | 1 << 1 | 1 << 3).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x38" + raw + again * blocks + last


BOMBS: dict[str, Callable[[], bytes]] = {
    "gz": lambda: zeros(100),
    "bz2": lambda: COMPRESS["bz2"](GIF + bytes(20 * MB)),
    "xz": lambda: lzma.compress(GIF + bytes(20 * MB), preset=0),
    "zst": lambda: zstd_zeros(30_000),  # 4 GB
    "method 8": lambda: make_zip([("it", GIF + bytes(40 * MB))]),
    "method 12": lambda: make_zip([("it", GIF + bytes(20 * MB))], 12),
    "method 14": lambda: make_zip([("it", GIF + bytes(20 * MB))], 14),
    "method 93": lambda: make_zip([("it", GIF + bytes(40 * MB))], 93),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_swells_too_much_is_told(bomb: str, tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(BOMBS[bomb]())
    with bounded_memory():
        seen = look(tmp_path / "it")
    assert seen.lost == [("it", "archive_limit")]
    assert "more than 200 times" in seen.said


def test_the_rest_of_a_zip_goes_on(tmp_path: Path) -> None:
    files = [("a.gif", picture(1)), ("b.gif", GIF + bytes(20 * MB)), ("c.gif", picture(3))]
    seen = look_at(make_zip(files), tmp_path)
    assert seen.members == [files[0], files[2]]
    assert seen.lost == [("b.gif", "archive_limit")]


def test_what_is_small_may_be_packed_tightly(tmp_path: Path) -> None:
    blank = [("a.gif", GIF + bytes(900_000)), ("b.gif", GIF + bytes(900_000))]
    assert look_at(make_zip(blank), tmp_path).members == blank
    blank = [(f"{n}.gif", GIF + bytes(5 * MB)) for n in range(4)]
    assert look_at(COMPRESS["gz"](make_tar(blank)), tmp_path).members == blank


@pytest.mark.parametrize("member", [f"{60 * MB:o}".encode(), b"\x80" + (1 << 62).to_bytes(11, "big")])
def test_a_compressed_tar_that_swells_is_left(member: bytes, tmp_path: Path) -> None:
    head = COMPRESS["gz"](tar_entry(b"a.gif", data=GIF) + tar_entry(b"b.gif", size=member))
    (tmp_path / "it").write_bytes(head + zeros(100))
    with bounded_memory():
        seen = look(tmp_path / "it")
    assert seen.names == ["a.gif"]
    assert ("b.gif", "file_too_large") in seen.lost
    assert seen.lost[-1] == (None, "archive_limit")


def test_a_large_extended_header_is_never_read(tmp_path: Path) -> None:
    entry = tar_entry(b"a.gif", data=GIF)
    for kind in (b"x", b"g", b"L", b"K"):
        bomb = tar_entry(b"x", kind, size=b"77777777777")
        (tmp_path / "it").write_bytes(COMPRESS["gz"](entry + bomb + bytes(20 * MB)))
        with bounded_memory():
            seen = look(tmp_path / "it")
        assert (seen.names, seen.lost) == (["a.gif"], [(None, "archive_limit")])
        assert "header of 8,589,934,591 bytes" in seen.said


def test_extended_headers_without_an_end_are_counted(tmp_path: Path) -> None:
    headers = tar_entry(b"x", b"g", b"14 path=a.gif\n"[:14]) * 30
    seen = look_at(headers + tar_entry(b"a", data=GIF) + TAR_END, tmp_path, ArchiveLimits(max_entries=20))
    assert seen.lost == [(None, "archive_limit")]
    endless_holes = tar_entry(b"a", b"S", size=b"0")
    endless_holes = endless_holes[:482] + b"\1" + endless_holes[483:]
    total = sum(endless_holes[:148]) + sum(endless_holes[156:]) + 8 * 32
    endless_holes = endless_holes[:148] + b"%06o\0 " % total + endless_holes[156:]
    more = (bytes(504) + b"\1" + bytes(7)) * 30
    seen = look_at(endless_holes + more, tmp_path, ArchiveLimits(max_entries=20))
    assert seen.lost == [(None, "archive_limit")]


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_entries_are_counted_those_that_are_no_inputs_too(
    make: Callable[[list[tuple[str, bytes]]], bytes], tmp_path: Path
) -> None:
    files = [(f"{n}.{'gif' if n % 2 else 'txt'}", b"") for n in range(20)]
    seen = look_at(make(files), tmp_path, ArchiveLimits(max_entries=10))
    assert seen.names == [f"{n}.gif" for n in (1, 3, 5, 7, 9)]
    assert seen.lost == [(None, "archive_limit")]
    assert "10 entries" in seen.said
    assert not look_at(make(files), tmp_path, ArchiveLimits(max_entries=20)).lost


@pytest.mark.parametrize(
    "pack", [make_zip, make_tar, lambda files: COMPRESS["xz"](make_tar(files))], ids=["zip", "tar", "tar.xz"]
)
def test_bytes_are_counted_in_all(pack: Callable[[list[tuple[str, bytes]]], bytes], tmp_path: Path) -> None:
    files = [(f"{n}.gif", picture(n) * 30_000) for n in range(6)]
    seen = look_at(pack(files), tmp_path, ArchiveLimits(max_total_bytes=1_500_000))
    assert 1 <= len(seen.names) <= 4
    assert seen.lost == [(None, "archive_limit")]
    assert "0.0015 GB" in seen.said


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_large_member_costs_itself(
    make: Callable[[list[tuple[str, bytes]]], bytes], tmp_path: Path
) -> None:
    files = [("a.gif", GIF), ("b.gif", picture(1) * 9000), ("notes.txt", b"x" * 9000), ("c.gif", GIF)]
    seen = look_at(make(files), tmp_path, ArchiveLimits(max_member_bytes=5000))
    assert (seen.names, seen.lost) == (["a.gif", "c.gif"], [("b.gif", "file_too_large")])
    assert "0.005 MB" in seen.said
    assert seen.skipped == {"other type": 1}


def test_a_large_compressed_picture(tmp_path: Path) -> None:
    limits = ArchiveLimits(max_member_bytes=5000)
    assert look_at(COMPRESS["gz"](GIF * 300), tmp_path, limits).names == ["it"]
    assert look_at(COMPRESS["gz"](GIF * 500), tmp_path, limits).lost == [("it", "file_too_large")]


def test_a_member_at_the_limit_is_whole(tmp_path: Path) -> None:
    files = [("a.gif", bytes(GIF.ljust(5000, b"x")))]
    assert look_at(make_zip(files), tmp_path, ArchiveLimits(max_member_bytes=5000)).members == files
    assert look_at(make_tar(files), tmp_path, ArchiveLimits(max_member_bytes=5000)).members == files


def test_a_large_member_is_in_memory_once(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(make_tar([("a.gif", GIF + bytes(40 * MB))]))
    with bounded_memory():
        (member,) = look(tmp_path / "it").members
    assert len(member[1]) == len(GIF) + 40 * MB


def test_a_large_video_in_a_plain_tar_is_passed_over_without_reading(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tar"
    with path.open("wb") as file:
        file.write(tar_entry(b"film.mp4", size=b"%o" % (40_000 * MB)))
        file.seek(512 + 40_000 * MB)  # a hole: nothing of it is on the disk
        file.write(tar_entry(b"a.gif", data=GIF) + TAR_END)
    seen = look(path)
    assert (seen.names, seen.lost) == (["a.gif"], [("film.mp4", "file_too_large")])


def test_entries_that_overlap(tmp_path: Path) -> None:
    one = make_zip([("a.gif", picture(1) * 5000)], 0)
    at = one.index(b"PK\1\2")
    record, end = one[at:-22], bytearray(one[-22:])
    end[8:16] = struct.pack("<HHL", 300, 300, 300 * len(record))
    seen = look_at(one[:at] + record * 300 + bytes(end), tmp_path)
    assert len(seen.names) < 3
    assert seen.lost == [(None, "archive_error")]
    assert "overlap" in seen.said


def test_a_large_directory_is_not_held(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(300):
            info = zipfile.ZipInfo(f"{number}.gif")
            info.comment = bytes(65_535)
            archive.writestr(info, GIF)
    (tmp_path / "it").write_bytes(buffer.getvalue())
    tracemalloc.start()
    try:
        seen = look(tmp_path / "it")
        assert tracemalloc.get_traced_memory()[1] < 2 * MB
    finally:
        tracemalloc.stop()
    assert len(seen.names) == 300


def nest(levels: int, breadth: int) -> bytes:
    """Return archives in archives; in each there is a picture too."""
    inner = make_zip([("a.gif", GIF)])
    for level in range(levels - 1):
        names = [f"{level}-{n}" for n in range(breadth)]
        inner = make_zip([*((name, inner) for name in names), ("a.gif", GIF)], level % 2 * 8)
    return inner


def test_archives_in_archives_are_entered_to_a_depth(tmp_path: Path) -> None:
    assert len(look_at(nest(3, 2), tmp_path).names) == 1 + 2 + 4
    seen = look_at(nest(5, 2), tmp_path)
    assert len(seen.names) == 1 + 2 + 4
    assert [code for _, code in seen.lost] == ["archive_limit"] * 8
    assert seen.lost[0][0] == "3-0!/2-0!/1-0"
    assert "deeper than the limit of 3" in seen.said


def test_what_is_nested_is_counted_with_the_rest(tmp_path: Path) -> None:
    seen = look_at(nest(3, 5), tmp_path, ArchiveLimits(max_entries=12))
    assert seen.lost == [(None, "archive_limit")]
    seen = look_at(nest(3, 5), tmp_path, ArchiveLimits(max_total_bytes=3000))
    assert seen.lost == [(None, "archive_limit")]
    assert seen.names


@pytest.mark.parametrize("quine", [zip_quine, gzip_quine])
def test_an_archive_that_holds_itself_ends(quine: Callable[[], bytes], tmp_path: Path) -> None:
    data = quine()
    seen = look_at(data, tmp_path, name="q")
    ((name, code),) = seen.lost
    assert (seen.members, code) == ([], "archive_limit")
    assert name is not None
    assert name.count("!/") == 2
    # Only what is nested deeper is not entered; all that is entered is the archive again.
    deeper = look_at(data, tmp_path, ArchiveLimits(max_depth=20), name="q").lost
    assert [lost[0] and lost[0].count("!/") for lost in deeper] == [19]


def test_the_quines_are_quines() -> None:
    assert zlib.decompress(gzip_quine(), wbits=31) == gzip_quine()
    with zipfile.ZipFile(io.BytesIO(zip_quine())) as archive:
        assert archive.read(archive.namelist()[0]) == zip_quine()


def test_a_stream_of_empty_streams_ends(tmp_path: Path) -> None:
    for compression in ("gz", "bz2", "zst"):
        data = COMPRESS[compression](b"") * 3000 + COMPRESS[compression](GIF)
        assert look_at(data, tmp_path).members == [("it", GIF)]


class Clock:
    """A clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, by_itself: float = 0.0) -> None:
        self.now = 0.0
        self._by_itself = by_itself
        monkeypatch.setattr(archive_limits, "time", SimpleNamespace(monotonic=self.tick))

    def tick(self) -> float:
        """Return the time."""
        self.now += self._by_itself
        return self.now


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_reading_takes_no_longer_than_it_may(
    make: Callable[[list[tuple[str, bytes]]], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, by_itself=10.0)
    seen = look_at(make([(f"{n}.gif", GIF) for n in range(100)]), tmp_path)
    assert seen.lost == [(None, "archive_limit")]
    assert "600 s" in seen.said
    assert 0 < len(seen.names) < 60


def test_streams_without_content_cost_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, by_itself=10.0)
    seen = look_at(COMPRESS["gz"](b"") * 1000 + COMPRESS["gz"](GIF), tmp_path)
    assert seen.lost == [(None, "archive_limit")]


def test_the_time_that_others_take_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    (tmp_path / "a.tar").write_bytes(make_tar([(f"{n}.gif", GIF) for n in range(5)]))
    archive = open_input(str(tmp_path / "a.tar")).archive
    assert archive is not None
    found = []
    for one in read_archive(archive):
        found.append(one.name)
        clock.now += 1e6
    archive.file.close()
    assert found == [f"{n}.gif" for n in range(5)]
