"""Archives among the inputs: Items and Failures, what is passed over, and what is known again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from clipmod_cli.sources.base import Rules, Skipped
from clipmod_cli.sources.registry import expand
from clipmod_cli.types import Failure, Item
from tests.archives.making import COMPRESS, GIF, TEXT, Files, make_tar, make_zip, picture

HIDDEN: Files = [
    (name, GIF) for name in ("a.gif", ".b.gif", ".dir/c.gif", "__MACOSX/d.gif", "./e.gif", "../f.gif")
]
MTIME_NS = 1_700_000_000_000_000_000


def plant(path: Path, data: bytes) -> str:
    """Write a file, and return its path."""
    path.write_bytes(data)
    os.utime(path, ns=(MTIME_NS, MTIME_NS))
    return str(path)


def go(*sources: str | Path, rules: Rules | None = None) -> tuple[list[Item | Failure], Skipped]:
    """Return what these sources give, and what is skipped; every index is its place."""
    skipped = Skipped()
    given = list(expand([str(source) for source in sources], rules or Rules(), skipped))
    assert [item_of(one).index for one in given] == list(range(len(given)))
    return given, skipped


def item_of(given: Item | Failure) -> Item:
    return given.item if isinstance(given, Failure) else given


def keys(given: Sequence[Item | Failure]) -> list[tuple[str, str | None]]:
    """Return (file name, member) of each."""
    return [(Path(item_of(one).source).name, item_of(one).member) for one in given]


def test_members_stand_where_the_archive_stood(tmp_path: Path) -> None:
    plant(tmp_path / "a.gif", GIF)
    path = plant(
        tmp_path / "b.zip", make_zip([("x.gif", picture(1)), ("y.txt", TEXT), ("z.gif", picture(2))])
    )
    plant(tmp_path / "c.gif", GIF)
    given, skipped = go(tmp_path, path)
    members = [("b.zip", "x.gif"), ("b.zip", "z.gif")]
    assert keys(given) == [("a.gif", None), *members, ("c.gif", None), *members]
    first = given[1]
    assert isinstance(first, Item)
    assert (first.source, first.data, first.mtime_ns) == (path, picture(1), MTIME_NS)
    assert skipped.reasons == {"other type": 2}


def test_an_archive_is_entered_by_its_content_and_told_by_its_name(tmp_path: Path) -> None:
    plant(tmp_path / "a.jpg", make_tar([("x.gif", GIF)]))
    plant(tmp_path / "b.zip", b"")
    plant(tmp_path / "c.zip", GIF)
    plant(tmp_path / "d", make_zip([("x.gif", GIF)]))
    assert keys(go(tmp_path)[0]) == [("a.jpg", "x.gif"), ("b.zip", None), ("c.zip", None), ("d", "x.gif")]


def test_what_cannot_be_had_is_a_failure_in_its_place(tmp_path: Path) -> None:
    data = make_zip([("a.gif", picture(1)), ("b.gif", picture(2)), ("c.gif", picture(3))], 0)
    data = data.replace(picture(2), picture(4), 1)
    path = plant(tmp_path / "x.zip", data)
    given, _ = go(path)
    failure = given[1]
    assert [type(one) for one in given] == [Item, Failure, Item]
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.code, failure.last) == ("source", "archive_error", True)
    assert (failure.item.source, failure.item.member) == (path, "b.gif")
    assert failure.media is not None
    assert (failure.media.mtime_ns, failure.media.bytes) == (MTIME_NS, None)
    assert "checksum" in failure.message


def test_what_ends_an_archive_is_known_by_its_size_and_time(tmp_path: Path) -> None:
    data = make_tar([("a.gif", GIF)])[:1100]
    given, _ = go(plant(tmp_path / "x.tar", data))
    failure = given[-1]
    assert keys(given) == [("x.tar", "a.gif"), ("x.tar", None)]
    assert isinstance(failure, Failure)
    assert failure.media is not None
    assert (failure.code, failure.media.mtime_ns, failure.media.bytes) == ("archive_error", MTIME_NS, 1100)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (make_zip([]), "it is empty"),
        (make_zip([("a.txt", TEXT), ("b.txt", TEXT), ("c.pdf", b"%PDF-1.7")]), "other type 2, document 1"),
        (COMPRESS["gz"](TEXT), "other type 1"),
        (make_zip([("a.zip", make_zip([]))]), "empty archive 1"),
    ],
)
def test_an_archive_without_inputs(data: bytes, said: str, tmp_path: Path) -> None:
    path = plant(tmp_path / "log", data)
    (failure,), _ = go(path)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.item.source, failure.item.member) == ("archive_error", path, None)
    assert said in failure.message
    found, skipped = go(tmp_path)
    assert found == []
    assert skipped.reasons["empty archive"] >= 1


def test_hidden_members_are_inputs(tmp_path: Path) -> None:
    for data in (make_zip(HIDDEN), make_tar(HIDDEN)):
        given, skipped = go(plant(tmp_path / "x", data))
        assert [item_of(one).member for one in given] == [name for name, _ in HIDDEN]
        assert not skipped.reasons


def test_a_named_compressed_picture_is_judged_whatever_it_is_called(tmp_path: Path) -> None:
    path = plant(tmp_path / ".x.gif.gz", COMPRESS["gz"](GIF))
    assert keys(go(path, rules=Rules(exclude=("*",)))[0]) == [(".x.gif.gz", ".x.gif")]
    assert go(tmp_path)[0] == []


@pytest.mark.parametrize(
    ("rules", "named", "found"),
    [
        (Rules(exclude=("*.png",)), ["a.gif", "d/c.gif", "i.zip!/a.gif"], None),
        (Rules(exclude=("b.png",)), None, ["a.gif", "d/c.gif", "i.zip!/a.gif"]),
        (Rules(exclude=("d/",)), ["a.gif", "b.png", "i.zip!/a.gif", "i.zip!/b.png"], None),
        (Rules(exclude=("i.zip",)), ["a.gif", "b.png", "d/c.gif"], ["a.gif", "b.png", "d/c.gif"]),
        (Rules(exclude=("/a.gif",)), ["b.png", "d/c.gif", "i.zip!/a.gif", "i.zip!/b.png"], None),
        (Rules(exclude=("/in/x.zip/a.gif",)), None, ["b.png", "d/c.gif", "i.zip!/a.gif", "i.zip!/b.png"]),
        (Rules(exclude=("in",)), None, []),
        (Rules(include=("*.gif", "*.zip")), ["a.gif", "d/c.gif", "i.zip!/a.gif", "i.zip!/b.png"], None),
        (Rules(include=("*.gif",)), ["a.gif", "d/c.gif"], []),
        (Rules(include=("*.zip",)), ["i.zip!/a.gif", "i.zip!/b.png"], None),
        (Rules(include=("*.zip",)), None, ["a.gif", "b.png", "d/c.gif", "i.zip!/a.gif", "i.zip!/b.png"]),
    ],
)  # fmt: skip
def test_patterns_take_an_archive_for_a_folder(
    rules: Rules, named: list[str] | None, found: list[str] | None, tmp_path: Path
) -> None:
    inner = make_zip([("a.gif", GIF), ("b.png", GIF)])
    folder = tmp_path / "in"
    folder.mkdir()
    files = [("a.gif", GIF), ("b.png", GIF), ("d/c.gif", GIF), ("i.zip", inner)]
    path = plant(folder / "x.zip", make_zip(files))
    for source, expected in ((path, named), (str(tmp_path), found)):
        if expected is not None:
            assert [item_of(one).member for one in go(source, rules=rules)[0]] == expected


@pytest.mark.parametrize("name", ["", "/", "//", "..", "/..", "\\", "a\nb", "\udcff", "*", "[", "x" * 9000])
def test_no_name_confuses_the_patterns(name: str, tmp_path: Path) -> None:
    path = plant(tmp_path / "x.tar", make_tar([(name, GIF), ("last.gif", GIF)]))
    given, _ = go(path, tmp_path, rules=Rules(exclude=("*.txt", "**/no/**")))
    assert [type(one) for one in given] == [Item] * 4
    given, _ = go(path, tmp_path, rules=Rules(include=("*", "x.tar/")))
    assert {type(one) for one in given} == {Item}


def test_the_source_is_lazy_and_lets_go(tmp_path: Path) -> None:
    plant(tmp_path / "a.zip", make_zip([("1.gif", GIF), ("2.gif", GIF)]))
    plant(tmp_path / "b.zip", make_zip([("1.gif", GIF)]))
    given: Iterator[Item | Failure] = expand([str(tmp_path)], Rules())
    assert item_of(next(given)).member == "1.gif"
    (tmp_path / "b.zip").unlink()
    assert keys([next(given)]) == [("a.zip", "2.gif")]
    assert keys(list(given)) == [("b.zip", None)]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    assert keys(go(tmp_path)[0]) == [("pipe.zip", None)]
