"""What every store of parts does alike: names are created once, whole, and by one writer alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipmod_cli.errors import OutputError
from clipmod_cli.parts.store import PartStore, open_part_store
from tests.stores.servers import BUCKET, SERVERS

ODD_NAMES = ("done/B", "done/a", "done/a b", "done/a#1?versionId=x", "done/a%2Fb", "done/b/c", "done/é+[*]")
"""In the order of their bytes."""


@pytest.fixture(params=["folder", *SERVERS])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PartStore]:
    if request.param == "folder":
        yield open_part_store(str(tmp_path / "run"))
        return
    with SERVERS[request.param]() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield open_part_store(f"{request.param}://{BUCKET}/a run #1/")


def test_what_was_created_is_read(store: PartStore) -> None:
    assert store.create("done/part-000001.json", b"one")
    assert store.read("done/part-000001.json") == b"one"
    assert store.read("done/part-000002.json") is None


def test_a_name_is_created_once(store: PartStore) -> None:
    assert store.create("run.json", b"first")
    assert not store.create("run.json", b"second")
    assert not store.create("run.json", b"first")
    assert store.read("run.json") == b"first"


def test_nothing_is_listed_but_files_sorted_by_bytes(store: PartStore) -> None:
    for name in reversed(ODD_NAMES):
        store.create(name, name.encode())
    store.create("done2/x", b"")
    assert list(store.list("done")) == list(ODD_NAMES)
    assert list(store.list("")) == [*ODD_NAMES, "done2/x"]
    assert list(store.list("absent")) == []
    assert [store.read(name) for name in ODD_NAMES] == [name.encode() for name in ODD_NAMES]


def test_a_file_is_moved_and_replaces(store: PartStore, tmp_path: Path) -> None:
    for content in (b"old", b"new", b""):
        local = tmp_path / "local"
        local.write_bytes(content)
        store.put("parts/p", local)
        assert not local.exists()
        with store.get("parts/p") as path:
            assert path.read_bytes() == content


def test_what_is_absent_is_an_error_for_get_alone(store: PartStore) -> None:
    store.delete("absent")
    assert store.age_s("absent") is None
    with pytest.raises(OutputError, match="no such"), store.get("absent"):
        pass


def test_what_was_deleted_can_be_created(store: PartStore) -> None:
    assert store.create("lease", b"a")
    assert store.age_s("lease") is not None
    store.delete("lease")
    assert store.read("lease") is None
    assert store.create("lease", b"b")


def test_content_is_replaced_if_it_is_what_was_read(store: PartStore) -> None:
    store.create("lease", b"a")
    assert not store.replace("lease", b"b", b"c")
    assert store.replace("lease", b"a", b"c")
    assert store.read("lease") == b"c"
    assert not store.replace("absent", b"a", b"c")
    assert list(store.list("")) == ["lease"]


def test_of_many_threads_that_replace_one_does(store: PartStore) -> None:
    store.create("lease", b"old")
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda n: store.replace("lease", b"old", str(n).encode()), range(16)))
    assert won.count(True) == 1
    assert store.read("lease") == str(won.index(True)).encode()


def test_of_many_threads_that_create_one_does(store: PartStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda n: store.create("done/1", str(n).encode()), range(16)))
    assert won.count(True) == 1
    assert store.read("done/1") == str(won.index(True)).encode()
