"""A file that is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipmod_cli.atomic import atomic_file, remove_unfinished, temporary_file


def test_a_file_appears_at_the_end_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def fail(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"new")
        raise RuntimeError


def test_nothing_is_left_of_one_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        fail(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("umask", "mode", "expected"), [(0o077, None, 0o600), (0o022, None, 0o644), (0o022, 0o600, 0o600)]
)
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int | None, expected: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_file(tmp_path / "a", mode=mode):
            pass
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == expected


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a[1].jsonl"
    others = [
        ".a[1].jsonl.run.json.abcdefgh.part",
        ".a1.jsonl.abcdefgh.part",
        ".a[1].jsonl.mine.part",
        "b.part",
    ]
    for name in (*others, ".a[1].jsonl.abcd_9gh.part"):
        (tmp_path / name).touch()
    remove_unfinished(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)
    with atomic_file(path):
        (part,) = set(tmp_path.iterdir()) - {tmp_path / name for name in others}
        remove_unfinished(path)
        assert not part.exists(), "the names are those that a writer gives"
        part.touch()


def write_to_full_disk(folder: Path) -> None:
    with temporary_file(folder) as file:
        with Path("/dev/full").open("wb") as full:
            os.dup2(full.fileno(), file.fileno())
        file.write(b"new")  # into the buffer, which cannot be written
        raise RuntimeError


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_temporary_file_is_removed_though_the_disk_is_full(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_to_full_disk(tmp_path)
    assert list(tmp_path.iterdir()) == []
