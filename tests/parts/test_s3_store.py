"""A store of parts in S3: lost answers, servers that keep no conditions, large files and long lists."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipmod_cli.errors import MissingPackageError, OutputError, UsageError
from clipmod_cli.parts.store import PartStore, open_part_store
from tests.stores.servers import BUCKET, FakeS3, serving_s3


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    with serving_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def store(s3: FakeS3) -> PartStore:
    return open_part_store(f"s3://{BUCKET}/run/")


@pytest.mark.parametrize(
    ("name", "key"),
    [("run", "run/run.json"), ("a b+%23/é/", "a b+%23/é/run.json"), ("", "run.json"), ("a//", "a//run.json")],
)
def test_the_name_is_a_folder_with_or_without_a_slash(s3: FakeS3, name: str, key: str) -> None:
    store = open_part_store(f"s3://{BUCKET}/{name}")
    assert store.create("run.json", b"1")
    assert list(store.list("")) == ["run.json"]
    assert f"/{BUCKET}/{key}" in {one.path for one in s3.asked}


def test_other_schemes_and_missing_packages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="folders, s3:// and gs://, not to hf://"):
        open_part_store("hf://owner/name/run/")
    for scheme in ("s3", "gs"):
        with pytest.raises(UsageError, match=f"names no bucket. Give {scheme}://BUCKET/FOLDER/"):
            open_part_store(f"{scheme}:///run/")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="s3:// needs the package s3fs"):
        open_part_store("s3://bucket/run/")


def test_a_write_whose_answer_was_lost_is_known_as_ones_own(s3: FakeS3, store: PartStore) -> None:
    store.create("run.json", b"")
    s3.lost.append("PUT")
    assert store.create("done/1", b"same")
    s3.lost.append("PUT")
    assert not store.create("done/1", b"same")  # though another writer wrote the same
    s3.lost.append("PUT")
    assert store.replace("done/1", b"same", b"new")
    assert store.read("done/1") == b"new"
    assert s3.lost == []


def test_a_conflict_with_another_write_is_tried_again(s3: FakeS3, store: PartStore) -> None:
    store.create("run.json", b"")
    s3.conflicts = 2
    assert store.create("done/1", b"mine")
    s3.conflicts = 1
    assert not store.create("done/1", b"late")
    assert s3.conflicts == 0


@pytest.mark.parametrize("call", ["create", "replace"])
def test_a_server_that_keeps_no_conditions_is_refused_before_anything_is_written(
    s3: FakeS3, store: PartStore, call: str
) -> None:
    s3.put("run/old", b"1")
    s3.unconditional = True
    with pytest.raises(
        UsageError, match=r"s3://uploads/run/ cannot .* does not keep the condition If-None-Match"
    ):
        store.create("run.json", b"") if call == "create" else store.replace("old", b"1", b"2")
    assert (list(store.list("")), store.read("old")) == (["old"], b"1")


def test_the_server_is_tested_once_and_by_writers_alone(s3: FakeS3, store: PartStore) -> None:
    s3.put("run/old", b"1")
    store.read("old")
    assert {one.method for one in s3.asked} <= {"GET", "PUT"}
    store.create("a", b"")
    tests = [one for one in s3.asked if "/probes/" in one.path]
    store.create("b", b"")
    assert [one for one in s3.asked if "/probes/" in one.path] == tests
    assert [one.method for one in tests] == ["PUT", "PUT", "PUT", "DELETE"]


def test_a_list_is_longer_than_a_page(s3: FakeS3, store: PartStore) -> None:
    names = [f"done/part-{number:06}.json" for number in range(2005)]
    s3.put_many("run/" + name for name in names)
    assert list(store.list("done")) == names


def use_pieces_of(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("store", "s3", "gs"):
        monkeypatch.setattr(f"clipmod_cli.parts.objects.{module}.PIECE_BYTES", size)


@pytest.mark.parametrize("lost", [[], ["POST"], ["PUT", "PUT"]])
def test_a_large_file_is_sent_in_pieces(
    s3: FakeS3, store: PartStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: list[str]
) -> None:
    use_pieces_of(5_242_880, monkeypatch)  # the least that S3 takes
    content = bytes(range(256)) * 50_000
    (tmp_path / "local").write_bytes(content)
    s3.lost += lost
    store.put("parts/p", tmp_path / "local")
    assert sum(one.method == "PUT" and "partNumber" in one.query for one in s3.asked) == 3 + lost.count("PUT")
    with store.get("parts/p") as path:
        assert path.read_bytes() == content


def test_a_large_file_that_cannot_be_completed_is_given_up(
    s3: FakeS3, store: PartStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_pieces_of(1_000_000, monkeypatch)  # too small for the server
    (tmp_path / "local").write_bytes(bytes(2_500_000))
    with pytest.raises(
        OutputError, match=r"s3://uploads/run/parts/p: the store answered 400 \(EntityTooSmall\)"
    ):
        store.put("parts/p", tmp_path / "local")
    assert [one.method for one in s3.asked][-1] == "DELETE"  # of the pieces
    assert store.read("parts/p") is None
    assert (tmp_path / "local").exists()


def test_a_bucket_that_does_not_exist_is_no_empty_folder(s3: FakeS3) -> None:
    store = open_part_store("s3://missing/run/")
    for call in (lambda: store.read("a"), lambda: store.create("a", b""), lambda: list(store.list(""))):
        with pytest.raises(OutputError, match=r"^s3://missing/run/.*\(NoSuchBucket\)"):
            call()


def test_a_store_that_is_down_is_an_error_without_secrets(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("clipmod_cli.parts.objects.s3.TRIES", 1)
    store = open_part_store(f"s3://{BUCKET}/run/")
    with pytest.raises(OutputError) as told:
        store.create("run.json", b"")
    assert str(told.value).endswith("no connection to the store could be made")
    assert "testing" not in str(told.value)
