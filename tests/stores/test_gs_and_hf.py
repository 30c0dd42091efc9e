"""Google's store and the Hugging Face hub, each on a local server, through the real command."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipmod_cli.sources.stores.base import ObjectName
from clipmod_cli.sources.stores.hub import split_repository
from clipmod_cli.sources.stores.source import split_bucket
from tests.end_to_end.command import Command, read_records
from tests.hub import FakeHub
from tests.stores.servers import BUCKET, FakeGs, sample

NUDENET = ("--models", "nudenet", "--policy", "nsfw", "--no-db")


def test_a_bucket_of_google_is_judged_and_resumed(clipmod: Command, gs: FakeGs, out: Path) -> None:
    root = f"gs://{BUCKET}/"
    for key in ("in/a b#1.png", "in/noname", "other/c.png"):
        gs.put(key, sample("cat.png"))
    gs.put("in/notes", b"no picture")
    words = ("scan", root + "in", root + "none.png", "gs://nowhere/", *NUDENET, "-o", out)
    assert clipmod(*words, env=gs.environment).code == 3
    told = {
        record["source"]: (record["error"] or {"code": record["final_decision"]})["code"]
        for record in read_records(out.read_bytes())
    }
    assert told == {
        root + "in/a b#1.png": "Safe",
        root + "in/noname": "Safe",
        root + "none.png": "not_found",
        "gs://nowhere/": "not_found",
    }
    gs.put("in/noname", sample("color-chart.png"))
    again = clipmod(*words, env=gs.environment)
    assert ": 1 done, 3 to retry" in again.stderr
    records = {record["source"]: record for record in read_records(out.read_bytes())}
    assert records[root + "in/noname"]["final_decision"] == "NSFW"


def test_a_repository_of_the_hub_is_judged_and_resumed(clipmod: Command, out: Path) -> None:
    root = "hf://owner/name"
    files = {"img/cat.png": sample("cat.png"), "img/ä #1.png": sample("cat.png"), "img/README.md": b"# text"}
    with FakeHub() as hub:
        hub.add("owner/name", files)
        words = ("scan", root + "/img", root + "/img/none.png", "hf://owner/nothing", *NUDENET, "-o", out)
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_s3cret"}
        run = clipmod.process(*words, env=environment)
        assert run.code == 3, run.stderr
        told = {
            record["source"]: (record["error"] or {"code": record["final_decision"]})["code"]
            for record in read_records(out.read_bytes())
        }
        assert told == {
            root + "/img/cat.png": "Safe",
            root + "/img/ä #1.png": "Safe",
            root + "/img/none.png": "not_found",
            "hf://owner/nothing": "not_found",
        }
        assert "s3cret" not in out.read_text(encoding="utf-8") + run.stderr
        assert all("Authorization" not in one.headers for one in hub.asked("cdn/"))

        hub.requests.clear()
        hub.add("owner/name", files | {"img/cat.png": sample("cat.png")[:-1] + b"\0"})
        again = clipmod.process(*words, env=environment)
        assert ": 1 done, 3 to retry" in again.stderr
        assert ["cat.png" in one.path for one in hub.asked("/resolve/") if ".png" in one.path] == [True]


@pytest.mark.parametrize(
    ("source", "bucket", "key"),
    [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b//a/../c", "b", "/a/../c"),
        ("gs://b/a%20b?x=1#y", "b", "a%20b?x=1#y"),
        ("hf://owner/name", "owner/name", ""),
        ("hf://owner/name@v1/a@b.png", "owner/name@v1", "a@b.png"),
        ("hf://datasets/owner/name/data/a.png", "datasets/owner/name", "data/a.png"),
        ("hf://datasets/o/n@refs/pr/3/a.png", "datasets/o/n@refs/pr/3", "a.png"),
        ("hf://spaces/o", "spaces/o", ""),
    ],
)
def test_a_name_is_parted_and_put_together_again(source: str, bucket: str, key: str) -> None:
    split = split_repository if source.startswith("hf") else split_bucket
    assert split(source[5:]) == (bucket, key)
    assert ObjectName(source[:2], bucket, key).with_key(key).rstrip("/") == source.rstrip("/")
