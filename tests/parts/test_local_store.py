"""A store of parts in a folder: what file systems do. See `test_stores` for what all stores do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.parts.commit import remove_orphans
from clipmod_cli.parts.store import UNFINISHED_FOR_S, LocalStore, PartStore, open_part_store


@pytest.fixture
def store(tmp_path: Path) -> PartStore:
    return LocalStore(str(tmp_path / "run"))


def test_a_file_of_another_file_system_is_copied(
    store: PartStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.parent == tmp_path:
            raise OSError(errno.EXDEV, "other file system")
        return replace(self, target)

    (tmp_path / "local").write_bytes(b"content")
    monkeypatch.setattr(Path, "replace", refuse)
    store.put("parts/p", tmp_path / "local")
    assert store.read("parts/p") == b"content"
    assert not (tmp_path / "local").exists()


def test_age_is_by_the_clock_of_the_file_system(store: PartStore, tmp_path: Path) -> None:
    store.create("lease", b"")
    path = tmp_path / "run" / "lease"
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 1000))
    age = store.age_s("lease")
    assert age is not None
    assert age >= 1000
    assert list(store.list("")) == ["lease"]


def test_a_link_whose_answer_was_lost_counts(store: PartStore, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "exists")

    monkeypatch.setattr(os, "link", link_twice)
    assert store.create("done/1", b"mine")


def test_a_file_system_without_links_is_refused(store: PartStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OutputError, match="no hard links"):
        store.create("done/1", b"")
    assert list(store.list("")) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = LocalStore(str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot write"):
        store.create("run.json", b"")
    with pytest.raises(OutputError, match="cannot write"):
        store.replace("run.json", b"", b"")


def test_the_scheme_names_the_store(tmp_path: Path) -> None:
    assert open_part_store(str(tmp_path)).name == f"{tmp_path}/"
    with pytest.raises(UsageError, match="ftp://"):
        open_part_store("ftp://host/run")


def test_files_of_killed_processes_are_removed_after_a_day(store: PartStore, tmp_path: Path) -> None:
    run = tmp_path / "run"
    store.create("done/part-000000.json", b"{}")
    files = {"old": run / "done/.part-000001.json.a.part", "new": run / "done/.part-000002.json.b.part"}
    files["old of the run"] = run / ".run.json.c.part"
    for name, path in files.items():
        path.write_bytes(b"")
        if name != "new":
            os.utime(path, (0, path.stat().st_mtime - UNFINISHED_FOR_S))
    remove_orphans(store)
    assert [name for name, path in files.items() if path.exists()] == ["new"]
    assert list(store.list("")) == ["done/part-000000.json"]
