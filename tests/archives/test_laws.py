"""Laws: what other readers find is found; nothing vanishes silently; no bytes make it raise or hang."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipmod_cli.sources.archives.items import open_input, read_archive
from clipmod_cli.sources.archives.limits import ArchiveLimits
from clipmod_cli.sources.archives.walk import ArchiveMember
from tests.archives.making import COMPRESS, GIF, ZIP_METHODS, Seen, make_tar, make_zip

SMALL = ArchiveLimits(max_entries=200, max_total_bytes=5_000_000, max_member_bytes=100_000)

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40).filter(
    lambda name: not name.endswith("/")
)
contents = st.binary(max_size=3000) | st.binary(max_size=20).map(lambda tail: GIF + tail * 90)
file_lists = st.lists(st.tuples(names, contents.map(lambda tail: GIF + tail)), max_size=6)


def see(data: bytes, name: str = "it") -> Seen | None:
    """Look into these bytes; None if they are no archive."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        archive = open_input(str(path)).archive
        if archive is None:
            return None
        skipped = Counter[str]()
        found = list(read_archive(archive, skipped=skipped, limits=SMALL))
        archive.file.close()
    for one in found:
        assert isinstance(one, ArchiveMember)
        assert one.name is None or "\0" not in one.name
    ended = [number for number, one in enumerate(found) if one.name is None]
    assert ended in ([], [len(found) - 1])
    assert not any(one.error is not None and one.error.code == "internal_error" for one in found)
    return Seen(found, skipped)


@given(files=file_lists, method=st.sampled_from(ZIP_METHODS), comment=st.binary(max_size=50))
def test_law_a_zip_reads_as_python_reads_it(
    files: list[tuple[str, bytes]], method: int, comment: bytes
) -> None:
    data = make_zip(files, method)
    data = data[:-2] + len(comment).to_bytes(2, "little") + comment
    seen = see(data)
    assert seen is not None
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert seen.names == archive.namelist()
    assert [content for _, content in seen.members] == [content for _, content in files]
    assert not seen.lost


@given(
    files=file_lists.filter(bool),
    dialect=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    compression=st.none() | st.sampled_from(sorted(COMPRESS)),
)
def test_law_a_tar_reads_as_python_reads_it(
    files: list[tuple[str, bytes]], dialect: int, compression: str | None
) -> None:
    data = make_tar(files, dialect)
    seen = see(COMPRESS[compression](data) if compression else data)
    assert seen is not None
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert seen.names == archive.getnames()
    assert [content for _, content in seen.members] == [content for _, content in files]
    assert not seen.lost


PICTURES = [(f"{n}.gif", GIF + bytes(range(n, n + 40)) * n) for n in range(4)]
HOSTS = {
    **{f"zip {method}": make_zip(PICTURES, method) for method in ZIP_METHODS},
    "zip of zip": make_zip([("a.zip", make_zip(PICTURES)), ("b.gif", GIF)], 0),
    "tar": make_tar(PICTURES)[: 9 * 1024],
    "gnu": make_tar([("x" * 200 + name, data) for name, data in PICTURES], tarfile.GNU_FORMAT)[: 10 * 1024],
    "pax": make_tar([("é" * 60 + name, data) for name, data in PICTURES])[: 12 * 1024],
    **{f"tar.{name}": pack(make_tar(PICTURES)) for name, pack in COMPRESS.items()},
    **{name: pack(GIF * 90) for name, pack in COMPRESS.items()},
}


@settings(max_examples=250)
@given(
    host=st.sampled_from(sorted(HOSTS)),
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4),
    cut=st.none() | st.integers(0, 1 << 20),
    inserted=st.none() | st.tuples(st.integers(0, 1 << 20), st.binary(max_size=30)),
)
def test_law_whatever_is_done_to_an_archive_it_ends(
    host: str,
    changes: list[tuple[int, int]],
    cut: int | None,
    inserted: tuple[int, bytes] | None,
) -> None:
    data = bytearray(HOSTS[host])
    for at, value in changes:
        data[at % len(data)] = value
    if inserted is not None:
        place = inserted[0] % len(data)
        data[place:place] = inserted[1]
    see(bytes(data[: None if cut is None else cut % len(data)]))


@settings(max_examples=250)
@given(
    host=st.sampled_from(sorted(HOSTS)),
    at=st.integers(0, 1 << 20),
    value=st.integers(0, 255),
    cut=st.booleans(),
)
def test_law_what_is_damaged_does_not_vanish(host: str, at: int, value: int, *, cut: bool) -> None:
    whole = HOSTS[host]
    data = bytearray(whole)
    if cut:
        del data[at % len(data) :]
    else:
        data[at % len(data)] = value
    seen = see(bytes(data), f"it.{host}")
    intact = see(whole)
    assert intact is not None
    if seen is None:
        return  # then the file itself is the input
    told = len(seen.members) + len(seen.lost) + seen.skipped.total()
    # What no longer begins like a tar (zstd need not notice) is by its name an input as a whole.
    assert told >= len(intact.members) or seen.lost or seen.names == ["it.tar"]


@given(
    magic=st.sampled_from([
        b"PK\3\4", b"PK\5\6", b"PK\7\x08", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd",
        bytes(257) + b"ustar\0",
    ]),
    tail=st.binary(max_size=2000),
)  # fmt: skip
@example(magic=b"PK\3\4", tail=b"wide")  # which is not the beginning of a QuickTime film
def test_law_no_bytes_raise(magic: bytes, tail: bytes) -> None:
    seen = see(magic + tail)
    assert seen is not None
    assert seen.found or seen.skipped or magic.startswith(b"PK")  # which may be an empty zip


def test_a_gzip_of_nothing_is_an_empty_file() -> None:
    seen = see(gzip.compress(b""))
    assert seen is not None
    assert (seen.found, seen.skipped) == ([], {"other type": 1})
