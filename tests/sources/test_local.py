"""What is an input of a folder, in which order, and what is only counted."""

from __future__ import annotations

import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import UsageError
from clipmod_cli.sources.base import Rules, Skipped
from clipmod_cli.sources.registry import expand
from tests.sources.inputs import only_items

GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
DEEP = 1500
"""Deeper than Python's stack of calls, as a path still short enough for the system."""


def plant(root: Path, *names: str, content: bytes = b"words") -> None:
    """Write files, and the folders that they are in; a name that ends in / is a folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def walk(root: Path, rules: Rules | None = None) -> tuple[list[str], Counter[str]]:
    """Return the paths of the inputs below a folder, relative to it, and what was skipped."""
    skipped = Skipped()
    items = list(only_items(expand([str(root)], rules or Rules(), skipped)))
    assert [item.index for item in items] == list(range(len(items)))
    return [os.path.relpath(item.source, root) for item in items], skipped.reasons


def test_files_and_folders_come_together_sorted_by_the_bytes_of_their_names(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "b.jpg",
        "a/z.jpg",
        "a.jpg",
        "a-b.jpg",
        "B.jpg",
        "é.jpg",
        "z.jpg",
        "a0/1.jpg",
        "10.jpg",
        "9.jpg",
    )
    names, _ = walk(tmp_path)
    # "a" itself comes before "a-b.jpg", though "a/z.jpg" as a whole would come after it.
    assert names == [
        "10.jpg", "9.jpg", "B.jpg", "a/z.jpg", "a-b.jpg", "a.jpg", "a0/1.jpg", "b.jpg", "z.jpg", "é.jpg"
    ]  # fmt: skip


# No separators, no dots at the beginning, and no names for which a file system has rules of its own.
file_names = st.binary(min_size=1, max_size=8).filter(
    lambda name: not {0, ord("/")} & set(name) and not name.startswith(b".")
)


@given(names=st.sets(file_names, max_size=12))
def test_law_every_name_is_found_whole_and_in_order(
    names: set[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = os.fsencode(tmp_path_factory.mktemp("names"))
    for name in names:
        with open(os.path.join(root, name), "wb") as file:  # noqa: PTH118, PTH123 — names of any bytes
            file.write(GIF)
    found = [os.fsencode(item.source) for item in only_items(expand([os.fsdecode(root)], Rules()))]
    assert found == [os.path.join(root, name) for name in sorted(names)]  # noqa: PTH118


@pytest.mark.parametrize(
    "name",
    [
        b"two words.jpg",
        b"two\nlines.jpg",
        b"-rf.jpg",
        b"--output.jpg",
        b"\xff\xfe.jpg",
        b"*.jpg",
        b"\x1b[2J.jpg",
    ],
)
def test_a_strange_name_can_be_opened(name: bytes, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"here")
    (item,) = only_items(expand([str(tmp_path)], Rules()))
    assert os.fsencode(item.source) == path
    with open(item.source, "rb") as file:  # noqa: PTH123
        assert file.read() == b"here"


def test_what_a_file_is_says_its_content_or_its_name(tmp_path: Path) -> None:
    plant(tmp_path, "no-extension", "lies.txt", content=GIF)
    plant(tmp_path, "empty.jpg", "FILM.MP4", "many.zip", content=b"")
    plant(tmp_path, "notes.txt", "code.py", content=b"words")
    plant(tmp_path, "empty", content=b"")
    names, skipped = walk(tmp_path)
    assert names == ["FILM.MP4", "empty.jpg", "lies.txt", "many.zip", "no-extension"]
    assert skipped == {"other type": 3}


def test_pipes_and_sockets_are_inputs_only_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        assert walk(tmp_path) == (["pipe.jpg"], Counter({"other type": 2}))


def test_hidden_ones_are_passed_over_unless_asked_for(tmp_path: Path) -> None:
    plant(tmp_path, ".a.jpg", ".cache/b.jpg", "c.jpg", "d/.e.jpg")
    assert walk(tmp_path) == (["c.jpg"], Counter({"hidden": 3}))
    names, skipped = walk(tmp_path, Rules(hidden=True))
    assert names == [".a.jpg", ".cache/b.jpg", "c.jpg", "d/.e.jpg"]
    assert not skipped


def test_a_named_one_is_an_input_whatever_it_is(tmp_path: Path) -> None:
    plant(tmp_path, ".hidden.txt", ".hid/x.jpg")
    (tmp_path / "link").symlink_to(".hid")
    (tmp_path / "dangling").symlink_to("nothing")
    named = [str(tmp_path / name) for name in (".hidden.txt", "nowhere.jpg", "dangling", ".hid", "link")]
    skipped = Skipped()
    strict = Rules(exclude=("*.txt",), include=("*.jpg",))
    assert [item.source for item in only_items(expand(named, strict, skipped))] == [
        *named[:3], f"{named[3]}/x.jpg", f"{named[4]}/x.jpg"
    ]  # fmt: skip
    assert not skipped.reasons


def test_a_path_that_no_file_can_have_is_an_item(tmp_path: Path) -> None:
    impossible = [str(tmp_path / ("x" * 5000)), "with\0nul", ""]
    assert [item.source for item in only_items(expand(impossible, Rules()))] == impossible


def test_an_empty_folder_has_no_inputs(tmp_path: Path) -> None:
    assert walk(tmp_path) == ([], Counter())


def test_links_are_counted_or_followed(tmp_path: Path) -> None:
    plant(tmp_path, "root/a.jpg", "elsewhere/b.jpg", "elsewhere/deep/c.jpg")
    (tmp_path / "root" / "file.jpg").symlink_to("../elsewhere/b.jpg")
    (tmp_path / "root" / "folder").symlink_to("../elsewhere")
    assert walk(tmp_path / "root") == (["a.jpg"], Counter({"link": 2}))
    names, skipped = walk(tmp_path / "root", Rules(follow=True))
    assert names == ["a.jpg", "file.jpg", "folder/b.jpg", "folder/deep/c.jpg"]
    assert not skipped


def test_loops_of_links_end(tmp_path: Path) -> None:
    plant(tmp_path, "a/one.jpg", "b/two.jpg")
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "z").symlink_to("../b")
    (tmp_path / "b" / "z").symlink_to("../a")
    names, skipped = walk(tmp_path, Rules(follow=True))
    assert names == ["a/one.jpg", "a/z/two.jpg", "b/two.jpg", "b/z/one.jpg"]
    assert set(skipped) == {"loop"}


def test_a_dangling_link_is_told_if_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to("nothing")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    assert walk(tmp_path) == ([], Counter({"link": 2}))
    assert walk(tmp_path, Rules(follow=True)) == (["gone.jpg", "round.jpg"], Counter())


def test_a_dangling_link_that_nobody_asked_for_is_not_told(tmp_path: Path) -> None:
    (tmp_path / ".#lock.jpg").symlink_to("nothing")
    (tmp_path / "old.jpg").symlink_to("nothing")
    names, skipped = walk(tmp_path, Rules(follow=True, exclude=("old*",)))
    assert (names, skipped) == ([], {"hidden": 1, "excluded": 1})


TREE = ("keep.jpg", "skip.jpg", "raw/keep.jpg", "raw/deep/skip.jpg", "a/raw/keep.jpg", "raw.png", "b/raw")


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.png",), (), {"raw.png"}),
        ((), ("skip.jpg",), {*TREE} - {"skip.jpg", "raw/deep/skip.jpg"}),
        ((), ("/skip.jpg",), {*TREE} - {"skip.jpg"}),
        ((), ("raw/",), {"keep.jpg", "skip.jpg", "raw.png", "b/raw"}),
        ((), ("raw",), {"keep.jpg", "skip.jpg", "raw.png"}),
        ((), ("/raw",), {*TREE} - {"raw/keep.jpg", "raw/deep/skip.jpg"}),
        ((), ("raw/deep",), {*TREE} - {"raw/deep/skip.jpg"}),
        ((), ("**/deep/*",), {*TREE} - {"raw/deep/skip.jpg"}),
        ((), ("*.jpg", "!keep.jpg"), {*TREE} - {"skip.jpg", "raw/deep/skip.jpg"}),
        ((), ("/raw", "!raw/keep.jpg"), {*TREE} - {"raw/keep.jpg", "raw/deep/skip.jpg"}),
        (("raw/",), (), {"raw/keep.jpg", "raw/deep/skip.jpg", "a/raw/keep.jpg"}),
        (("keep.*",), ("a/",), {"keep.jpg", "raw/keep.jpg"}),
        (("# a comment", "*.gif"), (), set()),
    ],
)  # fmt: skip
def test_patterns_mean_what_they_mean_to_git(
    include: tuple[str, ...], exclude: tuple[str, ...], expected: set[str], tmp_path: Path
) -> None:
    plant(tmp_path, *TREE, content=GIF)
    names, skipped = walk(tmp_path, Rules(include=include, exclude=exclude))
    assert set(names) == expected
    assert set(skipped) == {"excluded"}


def test_a_newline_in_a_folders_name_evades_no_pattern(tmp_path: Path) -> None:
    plant(tmp_path, "two\nlines/x.jpg", "two\nlines/y.png")
    assert walk(tmp_path, Rules(include=("*.jpg",)))[0] == ["two\nlines/x.jpg"]
    assert walk(tmp_path, Rules(exclude=("*.jpg",)))[0] == ["two\nlines/y.png"]


def test_a_pattern_that_cannot_be_understood_is_wrong_usage(tmp_path: Path) -> None:
    plant(tmp_path, "x.jpg")
    with pytest.raises(UsageError, match="--exclude"):
        walk(tmp_path, Rules(exclude=("!",)))


@pytest.mark.parametrize(("depth", "found"), [(0, 0), (1, 1), (2, 2), (3, 3), (None, 3)])
def test_depth_counts_from_the_named_folder(depth: int | None, found: int, tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "a/2.jpg", "a/b/3.jpg")
    names, skipped = walk(tmp_path, Rules(max_depth=depth))
    assert names == ["1.jpg", "a/2.jpg", "a/b/3.jpg"][:found]
    assert ("depth" in skipped) == (found < 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_cannot_be_seen_is_an_input(tmp_path: Path) -> None:
    plant(tmp_path, "closed/x.jpg", "secret")
    (tmp_path / "closed").chmod(0)
    (tmp_path / "secret").chmod(0)
    try:
        assert walk(tmp_path)[0] == ["closed", "secret"]
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder nested deeper than calls may be; taken away again, since pytest's own removal recurses."""
    root = folder = tmp_path / "deep"
    for _ in range(DEEP):
        folder.mkdir()
        folder /= "d"
    folder.mkdir()
    (folder / "x.jpg").write_bytes(GIF)
    yield root
    subprocess.run(["rm", "-rf", root], check=True)


def test_a_folder_nested_deeper_than_calls_is_walked(deep: Path) -> None:
    assert walk(deep) == (["d/" * DEEP + "x.jpg"], Counter())
    rules = replace(Rules(follow=True), include=("x.jpg",))
    assert walk(deep, rules) == (["d/" * DEEP + "x.jpg"], Counter())


def test_the_walk_is_lazy(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b/c.jpg")
    items = only_items(expand([str(tmp_path), str(tmp_path / "nowhere")], Rules()))
    assert next(items).source.endswith("a.jpg")
    (tmp_path / "b" / "c.jpg").unlink()
    plant(tmp_path, "b/new.jpg")
    assert [Path(item.source).name for item in items] == ["new.jpg", "nowhere"]
