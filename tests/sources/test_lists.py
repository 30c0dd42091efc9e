"""Lists of paths: whole names, as they come, in little memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import UsageError
from clipmod_cli.sources import lists
from clipmod_cli.sources.base import Rules, Skipped
from clipmod_cli.sources.lists import CHUNK_BYTES, read_list, read_urls
from clipmod_cli.sources.registry import expand
from tests.sources.inputs import only_items

MANY = 100_000
BYTES_A_PATH = 64
"""What is promised; a list that were held whole would cost more for the names alone."""


@pytest.fixture
def list_file(tmp_path: Path) -> Path:
    return tmp_path / "list"


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe in the place of stdin: (the end that is read, the end that is written)."""
    ends = os.pipe()
    monkeypatch.setattr(lists, "STDIN", ends[0])
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


lines = st.lists(
    st.binary(min_size=1, max_size=12).filter(lambda name: b"\n" not in name and not name.endswith(b"\r")),
    max_size=20,
).filter(lambda lines: not lines or not lines[0].startswith(tuple(lists.ENCODINGS)))
names = st.lists(st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name), max_size=20)
no_dash = {b"-": b"./-"}


@given(lines=lines, ended=st.booleans())
def test_law_a_list_of_lines_is_read_whole(
    lines: list[bytes], ended: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("list") / "list"
    path.write_bytes(b"\n".join(lines) + b"\n" * ended)
    found = [os.fsencode(name) for name in read_list(str(path), null=False)]
    assert found == [no_dash.get(line, line) for line in lines]


@given(names=names, ended=st.booleans())
def test_law_a_list_by_nul_keeps_newlines(
    names: list[bytes], ended: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("list") / "list"
    path.write_bytes(b"\0".join(names) + b"\0" * ended)
    found = [os.fsencode(name) for name in read_list(str(path), null=True)]
    assert found == [no_dash.get(name, name) for name in names]


def test_names_across_chunks_are_whole(list_file: Path) -> None:
    names = [f"{number:06}" * 200 for number in range(2 * CHUNK_BYTES // 1200)]
    list_file.write_text("\n".join(names))
    assert list(read_list(str(list_file), null=False)) == names


def test_blanks_belong_to_names_and_empty_lines_do_not(list_file: Path) -> None:
    list_file.write_bytes(b"\n a \n\n# no comment\n\xff.jpg\n\n")
    assert list(read_list(str(list_file), null=False)) == [" a ", "# no comment", "\udcff.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("chunk", [1, 2, 3, CHUNK_BYTES])
def test_a_list_from_windows(
    encoding: str, end: str, chunk: int, list_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "CHUNK_BYTES", chunk)
    mark = "\ufeff" if encoding.endswith("e") else ""
    names = ["C:\\photos\\bä.jpg", "日本.png", "-", "😀.gif"]
    list_file.write_bytes((mark + end.join([*names, ""])).encode(encoding))
    assert list(read_list(str(list_file), null=False)) == [names[0], names[1], "./-", names[3]]
    list_file.write_bytes((mark + end.join(["http://a/ä.jpg", "# no", "http://b/c"])).encode(encoding))
    assert [one.url for one in read_urls([str(list_file)], "url", null=False)] == [
        "http://a/ä.jpg",
        "http://b/c",
    ]


def test_a_file_whose_name_ends_with_a_carriage_return_keeps_it(list_file: Path, tmp_path: Path) -> None:
    (tmp_path / "a\r").touch()
    list_file.write_bytes(bytes(tmp_path / "a\r") + b"\n" + bytes(tmp_path / "b\r") + b"\n")
    assert list(read_list(str(list_file), null=False)) == [str(tmp_path / "a\r"), str(tmp_path / "b")]


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n\n"])
def test_an_empty_list_is_fine(content: bytes, list_file: Path) -> None:
    list_file.write_bytes(content)
    assert list(only_items(expand(read_list(str(list_file), null=False), Rules()))) == []


def test_a_list_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    for name in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UsageError, match=f"cannot read the list {name}"):
            list(read_list(str(name), null=False))


def test_listed_ones_are_inputs_and_listed_folders_are_walked(list_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.jpg").touch()
    (folder / "a.jpg").touch()
    (folder / "notes.txt").write_text("words")
    paths = [str(folder / "notes.txt"), str(folder), str(tmp_path / "nowhere"), str(folder / "b.jpg")]
    list_file.write_text("\n".join(paths))
    skipped = Skipped()
    found = [
        (item.index, item.source)
        for item in only_items(expand(read_list(str(list_file), null=False), Rules(), skipped))
    ]
    assert found == list(enumerate([paths[0], f"{folder}/a.jpg", f"{folder}/b.jpg", *paths[2:]]))
    assert skipped.reasons == {"other type": 1}


def test_a_listed_dash_is_a_file_and_not_stdin(list_file: Path, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"from-stdin.jpg\n")
    os.close(pipe[1])
    list_file.write_text("-\n-x.jpg\n--\n")
    items = list(only_items(expand(read_list(str(list_file), null=False), Rules())))
    assert [os.path.normpath(item.source) for item in items] == ["-", "-x.jpg", "--"]
    items = list(only_items(expand(read_list(str(list_file), null=False), Rules())))
    assert [os.path.normpath(item.source) for item in items] == ["-", "-x.jpg", "--"]


def test_a_list_on_stdin_stands_where_it_is_named(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"2.jpg\n3.jpg\n-\n")
    os.close(pipe[1])
    items = list(only_items(expand(["1.jpg", "-", "4.jpg"], Rules())))
    assert [os.path.normpath(item.source) for item in items] == ["1.jpg", "2.jpg", "3.jpg", "-", "4.jpg"]
    assert [item.index for item in items] == list(range(5))


def test_nul_separates_on_stdin_too(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"two\nlines.jpg\0b.jpg\0")
    os.close(pipe[1])
    assert [item.source for item in only_items(expand(["-"], Rules(null=True)))] == [
        "two\nlines.jpg",
        "b.jpg",
    ]


def test_a_path_is_given_as_soon_as_it_is_there(pipe: tuple[int, int]) -> None:
    """Each is asked for before the next was written: one that waited for more would wait for ever."""
    items = only_items(expand(["-"], Rules()))
    for number in range(3):
        os.write(pipe[1], f"{number}.jpg\n{number}-half".encode())
        assert next(items).source == f"{number}.jpg"
        os.write(pipe[1], b"-done\n")
        assert next(items).source == f"{number}-half-done"


def test_stdin_stays_open_and_a_file_does_not(pipe: tuple[int, int], list_file: Path) -> None:
    os.close(pipe[1])
    assert list(read_list("-", null=False)) == []
    os.fstat(pipe[0])
    list_file.write_text("a\nb\n")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None  # noqa: PTH112, PTH208
    paths = read_list(str(list_file), null=False)
    next(paths)
    paths.close()  # type: ignore[attr-defined]
    after = len(os.listdir("/proc/self/fd")) if before is not None else None  # noqa: PTH208
    assert after == before


def _count(listing: str) -> tuple[int, int]:
    """Return how many paths a list leads to, and the most memory that took, in bytes."""
    tracemalloc.start()
    count = sum(1 for _ in only_items(expand(read_list(listing, null=False), Rules())))
    return count, tracemalloc.get_traced_memory()[1]


def test_a_long_list_is_not_held_in_memory(list_file: Path) -> None:
    with list_file.open("w") as file:
        file.writelines(f"/nowhere/at/all/{number:064}.jpg\n" for number in range(MANY))
    # a process of its own: what other tests' threads take is not to be counted
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        count, peak = pool.submit(_count, str(list_file)).result()
    assert count == MANY
    assert peak < MANY * BYTES_A_PATH
