"""`clipmod review` as a command: decisions become labels, and a kill costs none."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import httpx2
import pytest

from clipmod_cli.evaluate.label_files import read_labels
from clipmod_cli.review.decisions import DecisionFile, MachineJudgement, read_decisions
from tests.end_to_end.command import SAMPLES, SHAPE_OPTIONS, TINY, Command
from tests.review.conftest import ended, started
from tests.review.decisions import decided


@pytest.fixture
def decisions(tmp_path: Path) -> Path:
    """Decisions of all kinds, one of them drawn."""
    path = tmp_path / "d.jsonl"
    with DecisionFile(path) as file:
        file.append(
            [decided("=evil.jpg"), decided("a.jpg", "safe", category="art"), decided("b.jpg", "unsure")]
        )
        file.append([decided("c.jpg", "minor"), decided("d.jpg", "safe", why="audit", probability=0.25)])
        file.append([decided("e.jpg"), decided("e.jpg", "undo")])
    return path


@contextmanager
def client_of(link: str) -> Iterator[httpx2.Client]:
    """Give a client that has opened the link."""
    with httpx2.Client(base_url=link.partition("?")[0], follow_redirects=True) as client:
        assert client.get(link).status_code == 200
        yield client


def test_decisions_are_exported_without_what_is_withheld(clipmod: Command, decisions: Path) -> None:
    rows = {}
    for ending in ("csv", "jsonl", "parquet"):
        out = decisions.with_name(f"labels.{ending}")
        run = clipmod("review", "export", decisions, "-o", out)
        assert run.code == 0
        assert "3 labels" in run.stderr
        assert "1 unsure and 1 withheld" in run.stderr
        assert b"c.jpg" not in out.read_bytes()
        rows[ending] = duckdb.execute(
            "SELECT source, label, decision, probability FROM query_table([?])", [str(out)]
        ).fetchall()
    assert rows["parquet"] == rows["jsonl"]
    assert rows["parquet"] == [
        ("=evil.jpg", "unsafe", "unsafe", 1.0),
        ("a.jpg", "art", "safe", 1.0),
        ("d.jpg", "safe", "safe", 0.25),
    ]
    with decisions.with_name("labels.csv").open(newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == ["'=evil.jpg", "a.jpg", "d.jpg"]


def test_eval_and_tune_take_the_file_and_what_is_exported_alike(clipmod: Command, decisions: Path) -> None:
    out = decisions.with_name("labels.jsonl")
    assert clipmod("review", "export", decisions, "-o", out).code == 0
    taken, exported = read_labels([str(decisions)]), read_labels([str(out)])
    assert taken == exported
    assert [(one.text, one.weight) for one in taken] == [("unsafe", 1.0), ("art", 1.0), ("safe", 4.0)]


def test_a_scan_is_reviewed_and_measured(clipmod: Command, tmp_path: Path) -> None:
    """The whole way: scan, decide over HTTP, undo, withhold, evaluate, list."""
    shutil.copytree(TINY / "pictures", tmp_path / "pictures")
    for name in ("cat.png", "astronaut.jpg"):
        shutil.copy(SAMPLES / name, tmp_path / "pictures")
    out = tmp_path / "out.jsonl"
    assert clipmod("scan", tmp_path / "pictures", *SHAPE_OPTIONS, "-o", out).code == 0
    words = ("--only", "nsfw,review,safe", "--audit", "0%", "--reviewer", "ana")
    with started(clipmod, tmp_path, *words) as (process, link), client_of(link) as client:
        state = client.get("/api/state").json()
        assert [one["label"] for one in state["categories"]].count("unsafe") == 1
        count = state["left"]
        client.post("/api/minor", json={"id": state["item"]["id"], "confirmed": True})
        withheld = state["item"]["name"]
        while item := client.get("/api/state").json()["item"]:
            label = "unsafe" if "red-circle" in item["name"] else "safe"
            client.post("/api/decide", json={"id": item["id"], "label": label, "seconds": 1.0})
        client.post("/api/undo", json={})
        assert client.get("/api/state").json()["left"] == 1
        client.post("/api/finish", json={})
        assert ended(process) == 0
    state = read_decisions(tmp_path / "d.jsonl")
    assert len(state.current) == count - 1
    assert {one.who for one in state.current.values()} == {"ana"}
    run = clipmod(
        "eval",
        out,
        "--labels",
        tmp_path / "d.jsonl",
        "--json",
        tmp_path / "m.json",
        "-o",
        tmp_path / "r.html",
    )
    assert run.code == 0, run.stderr
    assert "decisions left out: 0 unsure, 1 withheld" in run.stderr
    assert withheld.encode() not in clipmod("list", out).stdout
    assert withheld not in (tmp_path / "r.html").read_text()
    assert json.loads((tmp_path / "m.json").read_bytes())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_each_decision_is_kept_however_it_ends(
    clipmod: Command, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    shutil.copy(SAMPLES / "cat.png", tmp_path)
    shutil.copy(SAMPLES / "astronaut.jpg", tmp_path)
    out = tmp_path / "out.jsonl"
    clipmod("scan", tmp_path / "cat.png", tmp_path / "astronaut.jpg", *SHAPE_OPTIONS, "-o", out)
    words = ("--only", "safe", "--audit", "0%")
    with started(clipmod, tmp_path, *words) as (process, link), client_of(link) as client:
        item = client.get("/api/state").json()["item"]
        client.post("/api/decide", json={"id": item["id"], "label": "safe", "seconds": 1.0})
        assert ended(process, number) == code
    assert len(read_decisions(tmp_path / "d.jsonl").current) == 1
    with started(clipmod, tmp_path, *words) as (process, link), client_of(link) as client:
        state = client.get("/api/state").json()
        assert (state["done"], state["left"]) == (1, 1)
        assert state["item"]["name"] != item["name"]


def test_there_is_one_review_at_a_time(clipmod: Command, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    clipmod("scan", SAMPLES / "cat.png", *SHAPE_OPTIONS, "-o", out)
    with started(clipmod, tmp_path):
        other = clipmod("review", out, "--decisions", tmp_path / "d.jsonl")
        assert other.code == 5
        assert "is being written by another clipmod" in other.stderr


def test_another_device_needs_a_key(clipmod: Command, tmp_path: Path) -> None:
    """No setting of `serve` that turns keys off counts here."""
    out, keys = tmp_path / "out.jsonl", tmp_path / "keys.txt"
    keys.write_text("a-key-that-is-long-enough\n")
    clipmod("scan", SAMPLES / "cat.png", *SHAPE_OPTIONS, "-o", out)
    words = ["review", "out.jsonl", "--decisions", "d.jsonl", "--only", "safe", "--host", "0.0.0.0"]  # noqa: S104
    process = clipmod.start(
        [*words, "--api-keys-file", "keys.txt"],
        env={"CLIPMOD_NO_AUTH": "1", "USE_API_KEYS": "false"},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if b"log in" in line).decode()
        port = said.partition("0.0.0.0:")[2].partition("/ui")[0]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert client.get("/api/state").status_code == 401
            assert client.get("/?token=").status_code == 401
            client.post("/ui/login", data={"key": "a-key-that-is-long-enough"})
            assert client.get("/api/state").json()["left"] == 1
        assert ended(process, signal.SIGTERM) == 143
    finally:
        process.kill()
        process.communicate()


def test_wrong_calls_are_refused(clipmod: Command, tmp_path: Path, decisions: Path) -> None:
    out = tmp_path / "out.jsonl"
    clipmod("scan", SAMPLES / "cat.png", *SHAPE_OPTIONS, "-o", out)
    for words, told in {
        (): "name the outputs",
        (str(out),): "--decisions names",
        (str(out), "--decisions", str(out)): "are the same file",
        (str(out), "--decisions", str(SAMPLES / "cat.png")): "cat.png",
        (str(out), "--decisions", "d.jsonl", "--order", "worst"): "--order must be one of",
        (str(out), "--decisions", "d.jsonl", "--only", "nsfw,reviews"): "did you mean",
        (str(out), "--decisions", "d.jsonl", "--only", ","): "--only names",
        (str(out), "--decisions", "d.jsonl", "--audit", "1000"): "--audit must be",
        (str(out), str(out), "--decisions", str(decisions)): "named twice",
        (str(decisions), "--decisions", str(tmp_path / "new.jsonl")): "is not a clipmod record",
        (str(tmp_path / "none.jsonl"), "--decisions", str(tmp_path / "new.jsonl")): "none.jsonl",
        (str(out), "--decisions", "d.jsonl", "--host", "0.0.0.0"): "a key is needed",  # noqa: S104
        (str(out), "--decisions", "d.jsonl", "--public-url", "https://x.example"): "no effect without --host",
        ("export", str(decisions), "-o", str(tmp_path / "x.html")): "-o must end in",
        ("export", str(out), "-o", str(tmp_path / "x.csv")): "is not a decision",
        ("export", str(decisions), "-o", str(decisions)): "are the same file",
    }.items():
        run = clipmod("review", *words)
        assert (run.code, run.stdout) == (2, b""), words
        assert told in run.stderr, words


def test_a_review_that_ended_before_its_first_decision(clipmod: Command, tmp_path: Path) -> None:
    out, decisions = tmp_path / "out.jsonl", tmp_path / "d.jsonl"
    assert clipmod("scan", SAMPLES / "cat.png", *SHAPE_OPTIONS, "-o", out).code == 0
    with DecisionFile(decisions):
        pass
    assert clipmod("stats", decisions).stdout.decode() == f"No records and no decisions in {decisions} yet.\n"
    labels = ("--labels", decisions)
    for words, told in {
        ("eval", out, *labels, "-o", tmp_path / "r.html"): "is empty: no labels and no decisions in it yet",
        ("tune", out, *labels, "--recall", "0.9", "-o", tmp_path / "t.toml"): "no decisions in it yet",
        ("apply", decisions, "--label", "unsafe", "--move", tmp_path / "q"): "no decisions in it yet",
    }.items():
        run = clipmod(*words)
        assert run.code == 2
        assert told in run.stderr
    with DecisionFile(decisions) as file:
        file.append([decided("a.jpg"), decided("a.jpg", "undo"), decided("b.jpg", "unsure")])
    run = clipmod("eval", out, *labels, "-o", tmp_path / "r.html")
    assert run.code == 2
    assert f"no labels in {decisions}" in run.stderr
    assert "a file of decisions one that is unsafe or safe" in run.stderr


def test_stats_count_agreement_and_minutes(clipmod: Command, decisions: Path) -> None:
    with DecisionFile(decisions) as file:
        nsfw, safe = MachineJudgement(final_decision="NSFW"), MachineJudgement(final_decision="Safe")
        file.append([decided("f.jpg", judged=nsfw), decided("g.jpg", "safe", judged=nsfw)])
        file.append([decided("h.jpg", why="audit", probability=0.5, judged=safe, who="ben", seconds=60.0)])
    told = clipmod("stats", decisions)
    assert told.code == 0
    assert told.stdout.decode().splitlines() == [
        "8 decisions on 8 files: 3 unsafe, 3 safe, 1 unsure, 1 withheld",
        "1.3 minutes, 2.5 s a decision in the median",
        "By ana (7), ben (1)",
        "In the queue: people agree with 1 of 2 (50.0%); NSFW but safe: 1, Safe but unsafe: 0",
        "Drawn from all: people agree with 0 of 1 (0.0%); NSFW but safe: 0, Safe but unsafe: 1",
    ]
    assert json.loads(clipmod("stats", decisions, "--json").stdout)["withheld"] == 1
    assert clipmod("stats", decisions, "--sql", "SELECT 1").code == 2
    assert clipmod("stats", decisions, decisions.with_name("none.jsonl")).code == 2
