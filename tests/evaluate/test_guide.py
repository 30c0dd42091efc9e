"""The guide to evaluation: its shell blocks run, and its numbers are right."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipmod_cli.evaluate.intervals import interval_of, rate, rates_posterior
from clipmod_cli.evaluate.labels import LabelMeanings, read_label_map
from tests.end_to_end.command import ROOT, TINY, Command
from tests.evaluate.kit import POLICY, record

GUIDE = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with labelled pictures, their records, older records and a table of labels."""
    lines, older, rows = [], [], ["source,label"]
    for number, made in enumerate(sorted((TINY / "pictures").iterdir())):
        label = "NSFW" if made.name.startswith("red") else "Safe"
        target = tmp_path / "labelled" / label / made.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, target)
        name = f"labelled/{label}/{made.name}"
        score = 0.9 if label == "NSFW" else 0.1
        lines.append(json.dumps(record(number, score, source=name, sha256=None)))
        older.append(json.dumps(record(number, 0.9, source=name, sha256=None)))
        rows.append(f"{name},{label}")
    for name, content in (("results.jsonl", lines), ("older.jsonl", older), ("labels.csv", rows)):
        (tmp_path / name).write_text("\n".join(content) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("block", blocks("sh"), ids=lambda block: block.split("\n")[0][:60])
def test_the_shell_blocks_run(block: str, clipmod: Command, place: Path) -> None:
    if "jq" in block and shutil.which("jq") is None:
        pytest.skip("no jq on this machine")
    programs = place / "programs"
    programs.mkdir()
    command = programs / "clipmod"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clipmod_cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = f"{programs}:{clipmod.environment['PATH']}"
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=place,
        env={**clipmod.environment, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_the_label_map_is_one(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    (tmp_path / "map.toml").write_text(block, encoding="utf-8")
    LabelMeanings(POLICY, read_label_map(str(tmp_path / "map.toml")))


def test_the_table_of_intervals_is_right() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) and ([\d.]+) % \|$", GUIDE, flags=re.MULTILINE)
    assert len(rows) == 5
    for n, low, high in rows:
        found = rate(np.arange(int(n.replace(",", ""))) < 0.9 * int(n.replace(",", "")))
        assert (f"{100 * (found.low or 0):.1f}", f"{100 * (found.high or 0):.1f}") == (low, high)


def test_the_example_of_precision_is_right() -> None:
    caught, alarms = rates_posterior(rate(np.arange(100) < 90), rate(np.arange(300) < 3))
    low, high = interval_of(0.005 * caught / (0.005 * caught + 0.995 * alarms))
    value = 0.005 * 0.9 / (0.005 * 0.9 + 0.995 * 0.01)
    said = f"only {value:.0%} of the flagged inputs are NSFW, and the labels cannot tell {low:.0%} from"
    assert f"{said} {high:.0%}".replace("%", " %") in " ".join(GUIDE.split())


def test_the_fields_that_are_named_exist(clipmod: Command, place: Path) -> None:
    done = clipmod(
        "eval", place / "results.jsonl", "--labels", place / "labelled", "--root", place, "--json", "-"
    )
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    named = re.findall(r"`(\w+)`", GUIDE[GUIDE.index("## The JSON") :])
    estimate = {"value", "low", "high", "n", "hits", "trials"}
    assert set(found["quality"]["NSFW"]["ensemble"]["recall"]) == estimate
    for name in named:
        assert name in {*found, *found["quality"], *found["quality"]["NSFW"], "null"}, name
