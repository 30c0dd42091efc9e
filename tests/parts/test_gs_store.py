"""A store of parts in Google Cloud Storage: lost answers, no conditions, large files, a whole run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.parts.store import PartStore, open_part_store
from tests.end_to_end.command import Command, read_records
from tests.end_to_end.conftest import clipmod
from tests.parts.test_s3_run import comparable
from tests.parts.test_s3_store import use_pieces_of
from tests.stores.kit import NUDENET
from tests.stores.servers import BUCKET, FakeGs, sample, serving_gs

__all__ = ["clipmod"]

ROOT = f"gs://{BUCKET}/"


@pytest.fixture
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGs]:
    with serving_gs() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def store(gs: FakeGs) -> PartStore:
    return open_part_store(ROOT + "run")


def test_a_write_whose_answer_was_lost_is_known_as_ones_own(gs: FakeGs, store: PartStore) -> None:
    store.create("run.json", b"")
    gs.lost = 1
    assert store.create("done/1", b"same")
    gs.lost = 1
    assert not store.create("done/1", b"same")  # though another writer wrote the same
    gs.lost = 1
    assert store.replace("done/1", b"same", b"new")
    assert store.read("done/1") == b"new"
    assert gs.lost == 0


@pytest.mark.parametrize("call", ["create", "replace"])
def test_a_server_that_keeps_no_conditions_is_refused_before_anything_is_written(
    gs: FakeGs, store: PartStore, call: str
) -> None:
    gs.put("run/old", b"1")
    gs.unconditional = True
    with pytest.raises(
        UsageError, match=r"gs://uploads/run/ cannot .* does not keep the condition ifGenerationMatch=0"
    ):
        store.create("run.json", b"") if call == "create" else store.replace("old", b"1", b"2")
    assert (list(store.list("")), store.read("old")) == (["old"], b"1")


def test_any_bytes_are_stored_as_they_are(store: PartStore, tmp_path: Path) -> None:
    content = os.urandom(100_000) + b"\r\n--x\n\r\n"
    (tmp_path / "local").write_bytes(content)
    store.put("parts/p", tmp_path / "local")
    assert store.read("parts/p") == content


def test_a_large_file_is_sent_in_pieces(
    gs: FakeGs, store: PartStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_pieces_of(600_000, monkeypatch)
    content = os.urandom(1_300_000)
    (tmp_path / "local").write_bytes(content)
    store.put("parts/p", tmp_path / "local")
    assert [method for method, _ in gs.asked].count("PUT") == 3
    with store.get("parts/p") as path:
        assert path.read_bytes() == content


def test_a_bucket_that_does_not_exist_is_told(gs: FakeGs) -> None:
    store = open_part_store("gs://missing/run/")
    for call in (lambda: store.create("a", b""), lambda: list(store.list(""))):
        with pytest.raises(OutputError, match=r"^gs://missing/run/.*: there is no such object, bucket"):
            call()


def test_two_shards_judge_a_bucket_into_a_bucket_as_one_plain_scan_does(
    clipmod: Command, gs: FakeGs, tmp_path: Path
) -> None:
    for name in ("cat.png", "astronaut.jpg", "color-chart.png", "coffee.webp"):
        gs.put(f"in/{name}", sample(name))
    plain, merged = tmp_path / "plain.jsonl", tmp_path / "merged.jsonl"
    words = ("scan", ROOT + "in/", *NUDENET, "-o")
    assert clipmod(*words, plain).code == 0
    for shard in ("1/2", "2/2"):
        run = clipmod(*words, ROOT + "out/", "--shard", shard, "--part-size", "2")
        assert run.code == 0, run.stderr
    told = json.loads(clipmod("parts", ROOT + "out/", "--json").stdout)
    assert (told["planned"], told["records"], told["missing"]) == (4, 4, [])
    assert clipmod("merge", ROOT + "out/", "-o", merged).code == 0
    both = [read_records(path.read_bytes()) for path in (plain, merged)]
    assert [comparable(one) for one in both[0]] == [comparable(one) for one in both[1]]
