"""A policy with independent scores and look-alikes, from the file to the record and back from evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import TINY_ENSEMBLE, TINY_L, Command, by_name, read_records
from tests.tiny.shapes import picture_of

LOOK_ALIKES = ("red circle", "red triangle", "red star")
POLICY = """
name = "red-squares"
scoring = "independent"
templates = ["a photo of a {}", "{}"]

[[categories]]
name = "other"
safety = "SAFE"
otherwise = true
prompts = ["nothing", "blank page", "blue circle", "green triangle", "yellow star", "blue square"]

[[categories]]
name = "red_square"
safety = "UNSAFE"
prompts = ["red square"]
"""
NEGATIVES = f"negatives = {json.dumps(LOOK_ALIKES)}\n"
STAR = """
[[categories]]
name = "yellow_star"
safety = "UNSAFE"
threshold = 0.4
prompts = ["golden star"]
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(4):
        for name in ("red square", "blue circle", "yellow star", *LOOK_ALIKES):
            picture_of(name, seed=seed).save(folder / f"{name.replace(' ', '-')}-{seed}.png")
    return folder


def policy_at(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def facts_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without what another run or policy has otherwise."""
    return {name: record[name] for name in ("source", "final_decision", "needs_review", "review_reasons")}


def test_look_alikes_are_told_apart_by_negatives(clipmod: Command, tmp_path: Path, pictures: Path) -> None:
    options = ("--models", TINY_ENSEMBLE, "--no-isolate", "--coverage", "centre")
    plain = policy_at(tmp_path / "plain.toml", POLICY)
    opposed = policy_at(tmp_path / "opposed.toml", POLICY + NEGATIVES)
    without, having = (
        by_name(clipmod("scan", pictures, "--policy", path, *options).records) for path in (plain, opposed)
    )
    flagged, still = (
        {name for name, one in records.items() if one["final_decision"] == "NSFW"}
        for records in (without, having)
    )
    squares = {name for name in having if name.startswith("red-square")}
    assert squares <= still
    wrong = {name for name in flagged if name.startswith(("red-circle", "red-triangle", "red-star"))}
    assert len(wrong) >= 8, "red shapes look like red squares to a model that compares with other colours"
    assert not wrong & still
    for one in having.values():
        assert one["unsafe_score"] == one["category_scores"]["red_square"]


def test_another_unsafe_category_moves_no_score_and_tells_what_it_sees(
    clipmod: Command, tmp_path: Path, pictures: Path
) -> None:
    options = ("--models", TINY_ENSEMBLE, "--no-isolate", "--coverage", "centre")
    one = policy_at(tmp_path / "one.toml", POLICY + NEGATIVES)
    two = policy_at(tmp_path / "two.toml", POLICY + NEGATIVES + STAR)
    before, after = (
        by_name(clipmod("scan", pictures, "--policy", path, *options).records) for path in (one, two)
    )
    for name, record in before.items():
        scores = after[name]["category_scores"]
        assert scores["red_square"] == record["category_scores"]["red_square"]
        assert after[name]["unsafe_score"] == max(scores.values())
        matched = ["yellow_star"] if scores["yellow_star"] >= 0.4 else []
        assert after[name]["matched_categories"] == matched
        hit = bool(matched) or after[name]["unsafe_score"] >= 0.5
        assert after[name]["final_decision"] == ("NSFW" if hit else "Safe")
    assert any(record["matched_categories"] for record in after.values())


def test_stored_evidence_gives_the_records_of_the_scan_and_the_same_decisions_at_once(
    clipmod: Command, tmp_path: Path, pictures: Path
) -> None:
    plain = policy_at(tmp_path / "plain.toml", POLICY)
    opposed = policy_at(tmp_path / "opposed.toml", POLICY + NEGATIVES + STAR)
    out, evidence = tmp_path / "out.jsonl", tmp_path / "EV"
    options = ("--models", TINY_L, "--no-isolate")
    assert clipmod("scan", pictures, "--policy", plain, *options, "-o", out, "--evidence", evidence).code == 0
    scanned = clipmod("scan", pictures, "--policy", opposed, *options).records
    run = clipmod("rescore", evidence, "--policy", opposed, "-o", tmp_path / "new.jsonl")
    assert run.code == 0, run.stderr
    rescored = read_records((tmp_path / "new.jsonl").read_bytes())
    kept = ("category_scores", "category_ensemble_probabilities", "unsafe_score", "policy_hash")
    by_source = {one["source"]: one for one in scanned}
    assert len(rescored) == len(scanned)
    for one in rescored:
        assert [one[name] for name in kept] == [by_source[one["source"]][name] for name in kept]
        assert facts_of(one) == facts_of(by_source[one["source"]])
    run = clipmod("policies", "diff", plain, opposed, "--evidence", evidence, "--json")
    assert run.code == 0, run.stderr
    before = {one["source"]: one for one in read_records(out.read_bytes())}
    changed = {
        source
        for source, one in by_source.items()
        if (one["final_decision"], one["needs_review"])
        != (before[source]["final_decision"], before[source]["needs_review"])
    }
    assert {one["source"] for one in json.loads(run.stdout)["changes"]} == changed
    assert changed


def test_early_exit_changes_no_outcome(clipmod: Command, tmp_path: Path, pictures: Path) -> None:
    policy = policy_at(tmp_path / "two.toml", POLICY + NEGATIVES + STAR)
    words = ("scan", pictures, "--policy", policy, "--models", TINY_ENSEMBLE, "--no-isolate")
    full = clipmod(*words, "--coverage", "centre").records
    early = clipmod(*words, "--coverage", "centre", "--early-exit", "exact", "--no-cache").records
    outcome = ("source", "final_decision", "needs_review")
    assert [[one[name] for name in outcome] for one in early] == [
        [one[name] for name in outcome] for one in full
    ]
    assert any(one["models_skipped"] for one in early)
    for one, whole in zip(early, full, strict=True):
        if one["models_skipped"]:
            low, high = one["unsafe_score_bounds"]
            assert low <= whole["unsafe_score"] <= high


def test_a_policy_file_says_how_it_scores(clipmod: Command, tmp_path: Path) -> None:
    run = clipmod("policies", "check", policy_at(tmp_path / "two.toml", POLICY + NEGATIVES))
    assert run.code == 0
    assert "flags red_square, scores categories independently, hash" in run.stderr
    without = POLICY.replace('scoring = "independent"', "")
    path = policy_at(tmp_path / "softmax.toml", without + NEGATIVES)
    run = clipmod("policies", "check", path)
    assert run.code == 2
    assert f'{path}:{len(without.splitlines()) + 1}: "negatives" needs scoring = "independent"' in run.stderr
