"""`clipmod tune head` on drawn shapes: from 50 labels to a policy that judges better than bad prompts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors import safe_open

from tests.end_to_end.command import ROOT, TINY_ENSEMBLE, TINY_L, Command
from tests.tiny.shapes import CLASSES, picture_of

POSITIVES, NEGATIVES = 30, 20
STARS = [name for name in CLASSES if name.endswith("star")]
OTHERS = [name for name in CLASSES if not name.endswith("star")]
JUDGING = ("--models", TINY_ENSEMBLE, "--no-isolate", "--no-db", "-q")

BAD = """
name = "stars"

[[categories]]
name = "other"
safety = "SAFE"
prompts = ["red square", "yellow circle", "nothing"]

[[categories]]
name = "star"
safety = "UNSAFE"
prompts = ["golden wedge", "blue box"]
"""
"""A star is not what these prompts say."""
LEARNT = BAD.replace('prompts = ["golden wedge", "blue box"]', 'head = "heads/star.safetensors"')
ALONE = LEARNT.replace('prompts = ["red square", "yellow circle", "nothing"]', "otherwise = true")


def draw(folder: Path, positives: int, negatives: int, seed: int) -> None:
    """Draw stars of all colours and other shapes, some of them hard to tell, each into its class's folder."""
    for number in range(positives + negatives):
        is_star = number < positives
        name = STARS[number % len(STARS)] if is_star else OTHERS[number % len(OTHERS)]
        picture = picture_of(name, seed=seed + number)
        if number % 2 == 0:
            other = picture_of(OTHERS[7 * number % len(OTHERS)], seed=seed + number + 500)
            picture = Image.blend(picture, other.resize(picture.size), 0.4)
        path = folder / ("star" if is_star else "other") / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def run(root: Path, *words: str | Path) -> str:
    """Run the command in a folder and return its stdout."""
    command = [sys.executable, "-m", "clipmod_cli", *map(str, words)]
    environment = {
        "HOME": str(root),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled and fresh pictures, their evidence, policies and a head: made once.

    What the command said is in `said.txt`.
    """
    root = tmp_path_factory.mktemp("stars")
    draw(root / "labelled", POSITIVES, NEGATIVES, seed=0)
    draw(root / "fresh", 40, 80, seed=10_000)
    for name, text in (("bad", BAD), ("learnt", LEARNT), ("alone", ALONE)):
        (root / f"{name}.toml").write_text(text, encoding="utf-8")
    (root / "map.toml").write_text('star = "star"\nother = "Safe"\n', encoding="utf-8")
    for name in ("labelled", "fresh"):
        where = ("-o", f"{name}.jsonl", "--evidence", f"EV-{name}")
        run(root, "scan", name, "--policy", "./bad.toml", *JUDGING, *where)
    (root / "heads").mkdir()
    words = ("--evidence", "EV-labelled", "--category", "star", "--policy", "./bad.toml")
    said = run(root, "tune", "head", "--labels", "labelled", *words, "-o", "heads/star.safetensors")
    (root / "said.txt").write_text(said)
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, in which the command runs."""
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    monkeypatch.chdir(copy)
    return copy


def facts_of(head: Path) -> dict[str, Any]:
    with safe_open(head, framework="np") as file:
        found: dict[str, Any] = json.loads(file.metadata()["clipmod"])
    return found


def quality(clipmod: Command, policy: str) -> dict[str, Any]:
    """Return how good a policy is on the fresh pictures, by their evidence."""
    words = ("--labels", "fresh", "--policy", f"./{policy}.toml", "--label-map", "map.toml")
    done = clipmod("eval", "EV-fresh", *words, "--json", "-")
    assert done.code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["quality"]["NSFW"]["ensemble"]
    return found


def test_fifty_labels_beat_bad_prompts(clipmod: Command, place: Path) -> None:
    facts = facts_of(place / "heads" / "star.safetensors")
    area, prompts = facts["average_precision"], facts["zero_shot"]
    assert (facts["positives"], facts["negatives"], facts["folds"]) == (POSITIVES, NEGATIVES, 5)
    assert area["low"] < area["value"] <= area["high"]
    assert area["low"] > prompts["high"], "cross-validated, with its interval"
    said = (place / "said.txt").read_text()
    assert f"{area['value']:.2f} ({area['low']:.2f} to {area['high']:.2f})" in said
    assert f"{prompts['value']:.2f} ({prompts['low']:.2f} to {prompts['high']:.2f})" in said
    assert "The head is better than the prompts of the policy stars" in said
    assert 'head = "heads/star.safetensors" in place of prompts' in said
    before, learnt, alone = (quality(clipmod, name) for name in ("bad", "learnt", "alone"))
    for found in (learnt, alone):
        assert found["average_precision"]["value"] > before["average_precision"]["value"] + 0.2
        assert found["recall"]["value"] > 0.8
        assert found["false_alarm_rate"]["value"] < 0.2


def test_a_policy_with_a_head_judges_alike_everywhere(clipmod: Command, place: Path) -> None:
    """In a scan, again from its evidence, and by scores alone."""
    for name in ("learnt", "alone"):
        scanned = clipmod("scan", "fresh", "--policy", f"./{name}.toml", *JUDGING, "-o", f"{name}.jsonl")
        assert scanned.code == 0, scanned.stderr
        again = clipmod("rescore", "EV-fresh", "--policy", f"./{name}.toml", "--against", f"{name}.jsonl")
        assert json.loads(again.stdout)["counts"] == []
        assert json.loads(again.stdout)["same"] == 120
    told = clipmod("policies", "diff", "./bad.toml", "./learnt.toml", "--evidence", "EV-fresh")
    by_records = clipmod("rescore", "EV-fresh", "--policy", "./learnt.toml", "--against", "fresh.jsonl")
    assert sorted(json.loads(told.stdout)["counts"]) == sorted(json.loads(by_records.stdout)["counts"]) != []


def test_another_head_is_another_policy(clipmod: Command, place: Path) -> None:
    words = ("scan", "labelled", "--policy", "./learnt.toml", *JUDGING, "-o", "out.jsonl")
    assert clipmod(*words).code == 0
    assert clipmod(*words).code == 0
    labels = place / "labels.csv"
    rows = [f"{one},{one.parent.name}" for one in sorted(place.glob("labelled/*/*.png"))[1:]]
    labels.write_text("\n".join(["source,label", *rows]), encoding="utf-8")
    head = ("--evidence", "EV-labelled", "--category", "other", "-o", "heads/star.safetensors")
    assert "exists; --overwrite" in clipmod("tune", "head", "--labels", labels, *head).stderr
    wrong = clipmod("tune", "head", "--labels", labels, *head, "--overwrite")
    assert "needs 30 labelled inputs that are other, and there are 19: 11 more" in wrong.stderr
    assert wrong.code == 2
    head = ("--evidence", "EV-labelled", "--category", "star", "-o", "heads/star.safetensors")
    again = clipmod("tune", "head", "--labels", "labelled", "--label-map", "map.toml", *head, "--overwrite")
    assert again.code == 0, again.stderr
    assert "There are no prompts to compare with: the labels name no other class" in again.stdout.decode()
    changed = clipmod(*words)
    assert changed.code == 2
    assert "policy hash" in changed.stderr
    assert facts_of(place / "heads" / "star.safetensors")["zero_shot"] is None


def test_a_head_is_refused_for_other_models_weights_and_files(clipmod: Command, place: Path) -> None:
    words = ("scan", "fresh", "--policy", "./learnt.toml", "--no-isolate", "--no-db")
    single = clipmod(*words, "--models", TINY_L, "--json")
    assert single.code == 0, "a head for three models is one for each of them"
    head = place / "heads" / "star.safetensors"
    good = head.read_bytes()
    revision = facts_of(head)["models"][0]["revision"].encode()
    head.write_bytes(good.replace(revision, b"0" * len(revision)))
    refused = clipmod(*words, "--models", TINY_L)
    assert refused.code == 2
    assert "was learnt on open_clip:local-dir:" in refused.stderr
    assert "at 000000000000, not at" in refused.stderr
    for content, told in ((b"", "damaged"), (good[:-1], "damaged"), (None, "cannot read the head")):
        if content is None:
            head.unlink()
        else:
            head.write_bytes(content)
        for command in ((*words, "--models", TINY_L), ("policies", "check", "learnt.toml")):
            done = clipmod(*command)
            assert done.code == 2
            assert "learnt.toml:12: " in done.stderr
            assert told in done.stderr


def test_a_model_without_a_head_does_not_see_the_category(clipmod: Command, place: Path) -> None:
    words = ("scan", "fresh/star", "--policy", "./alone.toml", "--no-isolate", "--no-db", "--limit", "1")
    refused = clipmod(*words, "--models", "nudenet")
    assert refused.code == 2
    assert "cannot see star" in refused.stderr
    nothing = clipmod(*words)
    assert nothing.code == 4
    models = ",".join(one.rpartition("=")[0] for one in TINY_ENSEMBLE.split(","))
    assert f"--models {models}  # its heads are for these" in nothing.stderr


def test_a_tuned_policy_keeps_its_heads(clipmod: Command, place: Path) -> None:
    words = ("--labels", "fresh", "--label-map", "map.toml", "--recall", "0.8")
    tuned = clipmod("tune", "EV-fresh", "--policy", "./learnt.toml", *words, "-o", "tuned.toml")
    assert tuned.code == 0, tuned.stderr
    assert clipmod("policies", "check", "tuned.toml").code == 0
    assert clipmod("rescore", "EV-fresh", "--policy", "./tuned.toml", "-o", "t.jsonl").code == 0
    again = clipmod("tune", "t.jsonl", *words, "-o", "again.toml")
    assert again.code == 0, again.stderr
    (place / "elsewhere").mkdir()
    refused = clipmod("tune", "t.jsonl", *words, "-o", "elsewhere/tuned.toml")
    assert refused.code == 2
    assert f"Paths of heads are relative to their policy: write the tuned one into {place}" in refused.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-o", "head.toml"), "a head's name must end in .safetensors"),
        (("-o", "nowhere/star.safetensors"), "there is no folder"),
        (("-o", "star.safetensors", "--evidence", "nowhere"), "holds no evidence"),
        (("-o", "star.safetensors", "--labels", "nowhere"), "no labels at nowhere"),
        (("-o", "star.safetensors", "--policy", "nsfw"), "has no category 'star'"),
        (("-o", "star.safetensors", "--category", "moon"), "there are 0: 30 more"),
    ],
)
def test_wrong_calls_write_nothing(clipmod: Command, place: Path, words: tuple[str, ...], told: str) -> None:
    usual = {"--labels": "labelled", "--evidence": "EV-labelled", "--category": "star"}
    given = {**usual, **dict(zip(words[::2], words[1::2], strict=True))}
    done = clipmod("tune", "head", *(word for pair in given.items() for word in pair))
    assert done.code == 2
    assert told in done.stderr
    assert not list(place.glob("*.safetensors"))


def test_tune_is_two_commands(clipmod: Command, place: Path) -> None:
    """`head` is the one, and a file of this name is reached by its path."""
    assert "head  Learn a category of your own" in clipmod("tune", "--help").stdout.decode()
    assert "--category" in clipmod("tune", "head", "--help").stdout.decode()
    shutil.copy("fresh.jsonl", "head")
    shutil.copy("fresh.jsonl.run.json", "head.run.json")
    words = ("--labels", "fresh", "--label-map", "map.toml", "--recall", "0.5", "-o", "t.toml")
    assert "missing" in clipmod("tune", "head").stderr.lower()
    done = clipmod("tune", "./head", *words)
    assert done.code == 0, done.stderr
    lost = clipmod("tune", "--recall", "0.9", "head", "--labels", "labelled")
    assert "--recall has no effect before head" in lost.stderr
    two = clipmod("tune", "fresh.jsonl", "labelled.jsonl", *words, "--overwrite")
    assert "name one output of a scan" in two.stderr
    assert clipmod("tune", "./fresh.jsonl", "--labels", "fresh", "--recall", "0.5").code == 2
    assert (lost.code, two.code) == (2, 2)


def test_nothing_is_learnt_without_the_packages(
    clipmod: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "sklearn" else real(name, *more)
    )
    words = ("--labels", "labelled", "--evidence", "EV-labelled", "--category", "star", "-o", "s.safetensors")
    done = clipmod("tune", "head", *words)
    assert done.code == 4
    assert "[eval]" in done.stderr


def test_evidence_without_embeddings_is_refused(clipmod: Command, place: Path) -> None:
    scan = ("scan", "fresh/star", "--models", "open_nsfw", "--no-isolate", "--no-db", "-q")
    assert clipmod(*scan, "-o", "light.jsonl", "--evidence", "EV-light").code == 0
    words = ("--labels", "fresh", "--evidence", "EV-light", "--category", "star", "-o", "s.safetensors")
    done = clipmod("tune", "head", *words)
    assert done.code == 2
    assert "a head needs the evidence of a text-image model" in done.stderr
