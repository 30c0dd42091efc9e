"""`clipmod tune` on stored evidence, and with a calibration: the real command on planted embeddings."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmod_cli.judge.calibration import calibrated
from clipmod_cli.judge.policy.reading import load_policy
from tests.end_to_end.command import SHAPE_OPTIONS, SHAPES, TINY, Command, Record, read_records
from tests.evaluate.planted import plant

COUNT = 400
POSITIVE = [number // 4 % 2 == 0 for number in range(COUNT)]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of the sample pictures: made once."""
    import subprocess
    import sys

    root = tmp_path_factory.mktemp("stored")
    words = ("scan", TINY / "pictures", *SHAPE_OPTIONS, "--no-isolate", "--no-db", "-q")
    stored = (*words, "-o", root / "out.jsonl", "--evidence", root / "EV")
    command = [sys.executable, "-m", "clipmod_cli", *map(str, stored)]
    subprocess.run(command, check=True, timeout=240, env={"HOME": str(root), "PATH": "/usr/bin:/bin"})
    return root / "EV"


@pytest.fixture
def planted(scanned: Path, tmp_path: Path) -> Path:
    """Return evidence of many more inputs; their labels are in `labels.csv` beside it."""
    shutil.copytree(scanned, tmp_path / "EV")
    label(tmp_path, plant(tmp_path / "EV", POSITIVE))
    return tmp_path / "EV"


def label(folder: Path, hashes: list[str]) -> None:
    rows = [f"{one},{'NSFW' if red else 'Safe'}" for one, red in zip(hashes, POSITIVE, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["sha256,label", *rows]), encoding="utf-8")


def tune(clipmod: Command, inputs: Path, output: Path, *words: str | Path) -> list[str]:
    done = clipmod("tune", inputs, "-o", output, *words)
    assert done.code == 0, done.stderr
    return done.stdout.decode().splitlines()


def rescored(clipmod: Command, planted: Path, policy: Path, output: Path) -> dict[str, Record]:
    done = clipmod("rescore", planted, "--policy", policy, "-o", output)
    assert done.code in {0, 3}, done.stderr
    return {one["source"]: one for one in read_records(output.read_bytes())}


def table(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["tuned"]
    return found


@pytest.mark.parametrize(
    "promise",
    [
        ("--recall", "0.9"),
        ("--precision", "0.2", "--prevalence", "20%"),
        ("--budget", "40/day", "--rate", "100/day"),
    ],
)
def test_evidence_and_its_records_give_the_same_policy(
    clipmod: Command, planted: Path, tmp_path: Path, promise: tuple[str, ...]
) -> None:
    labels: tuple[str | Path, ...] = ("--labels", tmp_path / "labels.csv")
    words = promise if "--budget" in promise else (*promise, *labels)
    tune(clipmod, planted, tmp_path / "a.toml", "--policy", SHAPES, *words)
    rescored(clipmod, planted, SHAPES, tmp_path / "out.jsonl")
    tune(clipmod, tmp_path / "out.jsonl", tmp_path / "b.toml", *words)
    assert (tmp_path / "a.toml").read_bytes() == (tmp_path / "b.toml").read_bytes()


def test_a_calibrated_policy_decides_as_without_and_tells_the_probability(
    clipmod: Command, planted: Path, tmp_path: Path
) -> None:
    tuned, labels = tmp_path / "tuned.toml", tmp_path / "labels.csv"
    words = ("--policy", SHAPES, "--labels", labels, "--recall", "0.9", "--calibrate", "platt")
    said = tune(clipmod, planted, tuned, *words)
    found = table(tuned)
    fitted, promise = found["calibration"], found["promises"][0]
    assert fitted["slope"] > 0
    assert fitted["positives"] + promise["positives"] == POSITIVE.count(True), "no label is in both parts"
    assert fitted["positives"] + fitted["negatives"] + promise["inputs"] == COUNT
    assert f"Of the {promise['inputs']} labelled inputs it was found on" in said[1]
    assert said[2].startswith(
        f"Calibrated on {fitted['positives']} NSFW and {fitted['negatives']} other inputs"
    )
    before, after = (float(part.split()[-2]) for part in said[3].split("; ")[1].split(","))
    assert after < before, "the planted scores are far too sure"

    assert clipmod("policies", "check", tuned).code == 0
    text = tuned.read_text(encoding="utf-8")
    plain = tmp_path / "plain.toml"
    start, end = text.index("[tuned.calibration]"), text.index("[[tuned.models]]")
    plain.write_text(text[:start] + text[end:], encoding="utf-8")
    with_it = rescored(clipmod, planted, tuned, tmp_path / "with.jsonl")
    without = rescored(clipmod, planted, plain, tmp_path / "without.jsonl")
    calibration = load_policy(str(tuned)).tuned
    assert calibration is not None
    assert calibration.calibration is not None
    assert with_it.keys() == without.keys()
    for source, one in with_it.items():
        other = without[source]
        for name in ("unsafe_score", "final_decision", "needs_review", "review_reasons", "threshold"):
            assert one[name] == other[name]
        assert other["nsfw_probability"] is None
        assert one["nsfw_probability"] == float(calibrated(one["unsafe_score"], calibration.calibration))
    pairs = sorted((one["unsafe_score"], one["nsfw_probability"]) for one in with_it.values())
    assert (np.diff([probability for _, probability in pairs]) >= 0).all()
    scores, probabilities = zip(*pairs, strict=True)
    assert len(set(probabilities)) > len(set(scores)) / 2


def test_near_duplicates_are_never_in_both_parts(clipmod: Command, scanned: Path, tmp_path: Path) -> None:
    shutil.copytree(scanned, tmp_path / "EV")
    label(tmp_path, plant(tmp_path / "EV", POSITIVE, in_groups_of=4))
    words = ("--labels", tmp_path / "labels.csv", "--recall", "0.9", "--calibrate", "platt")
    tune(clipmod, tmp_path / "EV", tmp_path / "a.toml", "--policy", SHAPES, *words)
    rescored(clipmod, tmp_path / "EV", SHAPES, tmp_path / "out.jsonl")
    tune(clipmod, tmp_path / "out.jsonl", tmp_path / "b.toml", *words)
    grouped, single = table(tmp_path / "a.toml")["calibration"], table(tmp_path / "b.toml")["calibration"]
    assert grouped["positives"] % 4 == grouped["negatives"] % 4 == 0, "whole groups of four"
    assert grouped != single, "records do not tell near-duplicates"


def test_a_calibration_needs_labels_for_both_parts(clipmod: Command, planted: Path, tmp_path: Path) -> None:
    lines = (tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()
    few, output = tmp_path / "few.csv", tmp_path / "tuned.toml"
    words = ("--policy", SHAPES, "--labels", few, "-o", output, "--calibrate", "platt")
    few.write_text("\n".join(lines[:41]), encoding="utf-8")
    refused = clipmod("tune", planted, *words, "--recall", "0.9")
    assert refused.code == 2
    assert (
        "too few for a calibration, which needs 20 of both that no threshold is chosen on" in refused.stderr
    )
    few.write_text("\n".join(lines[:201]), encoding="utf-8")
    refused = clipmod("tune", planted, *words, "--recall", "0.98")
    assert refused.code == 2
    assert "and half as many again for the calibration, which took" in refused.stderr
    assert not output.exists()


def test_a_policy_with_a_head_is_tuned_and_told_to_have_other_labels(
    clipmod: Command, planted: Path, tmp_path: Path
) -> None:
    labels, head, policy = tmp_path / "labels.csv", tmp_path / "red.safetensors", tmp_path / "learnt.toml"
    to = tmp_path / "map.toml"
    to.write_text('NSFW = "red_circle"\n', encoding="utf-8")
    learnt = ("tune", "head", "--labels", labels, "--label-map", to, "--evidence", planted)
    done = clipmod(*learnt, "--category", "red_circle", "--policy", SHAPES, "-o", head)
    assert done.code == 0, done.stderr
    text = SHAPES.read_text(encoding="utf-8")
    start = text.index("prompts", text.index('name = "red_circle"'))
    with_head = text[:start] + 'head = "red.safetensors"' + text[text.index("\n", start) :]
    policy.write_text(with_head, encoding="utf-8")
    said = tune(
        clipmod, planted, tmp_path / "tuned.toml",
        "--policy", policy, "--labels", labels, "--recall", "0.9", "--calibrate", "platt",
    )  # fmt: skip
    assert "Note: labels that the head of red_circle was learnt on promise nothing: use others." in said
    found = rescored(clipmod, planted, tmp_path / "tuned.toml", tmp_path / "out.jsonl")
    threshold = table(tmp_path / "tuned.toml")["promises"][0]["threshold"]
    assert {one["threshold"] for one in found.values()} == {threshold}
