"""A store of parts in a folder: what file systems do. See `test_stores` for what all stores do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.parts.store import LocalStore, PartStore, open_part_store


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
