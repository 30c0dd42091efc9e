"""Archives in archives: every pairing, their names, and what is wrong with one of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.archives.making import COMPRESS, GIF, TEXT, Files, look_at, make_tar, make_zip, picture

PACK: dict[str, Callable[[Files], bytes]] = {
    "zip": make_zip,
    "tar": make_tar,
    "tgz": lambda files: COMPRESS["gz"](make_tar(files)),
    "tar.zst": lambda files: COMPRESS["zst"](make_tar(files)),
}


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(PACK, PACK)))
def test_one_in_another(outer: str, inner: str, tmp_path: Path) -> None:
    nested = PACK[inner]([("deep/b.gif", picture(2)), ("c.txt", TEXT)])
    data = PACK[outer]([("a.gif", picture(1)), ("in/ner", nested), ("z.gif", picture(3))])
    seen = look_at(data, tmp_path)
    assert seen.members == [
        ("a.gif", picture(1)), ("in/ner!/deep/b.gif", picture(2)), ("z.gif", picture(3))
    ]  # fmt: skip
    assert (seen.lost, seen.skipped) == ([], {"other type": 1})


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_compressed_picture_in_an_archive(compression: str, tmp_path: Path) -> None:
    name = f"dir/b.gif.{compression}"
    seen = look_at(make_zip([(name, COMPRESS[compression](GIF))]), tmp_path)
    assert seen.members == [(f"{name}!/b.gif", GIF)]


def test_an_archive_in_a_compressed_file(tmp_path: Path) -> None:
    data = COMPRESS["gz"](make_zip([("a.gif", GIF)]))
    assert look_at(data, tmp_path, name="x.zip.gz").names == ["x.zip!/a.gif"]
    twice = COMPRESS["xz"](COMPRESS["gz"](make_tar([("a.gif", GIF)])))
    assert look_at(twice, tmp_path, name="x.tar.gz.xz").names == ["x.tar.gz!/a.gif"]


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        (make_zip([("b.gif", GIF)])[:-9], "archive_error"),
        (make_tar([("b.gif", GIF)])[:600], "archive_error"),
        (COMPRESS["gz"](make_tar([("b.gif", GIF)]))[:40], "archive_error"),
        (COMPRESS["gz"](make_tar([("b.gif", GIF), ("b.mp4", bytes(60_000_000))])), "archive_limit"),
    ],
    ids=["zip", "tar", "tgz", "bomb"],
)
def test_a_broken_one_costs_itself(inner: bytes, code: str, tmp_path: Path) -> None:
    seen = look_at(make_zip([("a.gif", GIF), ("inner", inner), ("c.gif", GIF)], 0), tmp_path)
    assert set(seen.names) - {"inner!/b.gif"} == {"a.gif", "c.gif"}
    assert seen.lost[-1] == ("inner", code)
    assert set(seen.lost) <= {("inner", code), ("inner!/b.mp4", "file_too_large")}


def test_an_empty_one_is_counted(tmp_path: Path) -> None:
    empty = make_zip([("words.txt", TEXT)])
    seen = look_at(make_zip([("a.gif", GIF), ("b.docx", empty), ("c.zip", b"")]), tmp_path)
    assert seen.members == [("a.gif", GIF), ("c.zip", b"")]
    assert (seen.lost, seen.skipped) == ([], {"other type": 1, "empty archive": 1})
