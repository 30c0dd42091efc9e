"""A policy with a threshold for each category, from the file to the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.command import SHAPES, TINY_ENSEMBLE, TINY_L, Command, by_name, read_records
from tests.tiny.shapes import picture_of

TWO = SHAPES.read_text(encoding="utf-8").replace(
    "low = 0.7\nmedium = 0.5\nhigh = 0.35\nultra = 0.2",
    """
low = 1.0
medium = 1.0
high = 1.0
ultra = 1.0
""",
)
"""The shapes' policy, by whose sum nothing is NSFW."""

CIRCLE, RED = "red_circle", "red_shape"


def policy_with(folder: Path, circle: str = "", red: str = "") -> Path:
    """Write a policy in which red shapes are UNSAFE too, with these lines in the two categories."""
    text = TWO.replace(f'name = "{RED}"\nsafety = "SAFE"', f'name = "{RED}"\nsafety = "UNSAFE"\n{red}')
    text = text.replace(f'name = "{CIRCLE}"', f'name = "{CIRCLE}"\n{circle}')
    path = folder / "two.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Red circles and red squares blended: the models are less than certain of either."""
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(12):
        circle, square, blue = (
            picture_of(name, seed=seed) for name in ("red circle", "red square", "blue star")
        )
        circle.save(folder / f"circle{seed:02}.png")
        square.save(folder / f"square{seed:02}.png")
        blue.save(folder / f"blue{seed:02}.png")
        Image.blend(circle, square, 0.5).save(folder / f"mixed{seed:02}.png")
    return folder


@pytest.mark.parametrize("early", ["off", "exact"])
def test_one_category_from_03_and_another_from_06(
    clipmod: Command, tmp_path: Path, pictures: Path, early: str
) -> None:
    policy = policy_with(tmp_path, circle="threshold = 0.6\nreview_margin = 0.02", red="threshold = 0.3")
    run = clipmod(
        "scan", pictures, "--policy", policy, "--models", TINY_ENSEMBLE, "--no-isolate",
        "--coverage", "centre", "--early-exit", early,
    )  # fmt: skip
    assert run.code == 0, run.stderr
    records = by_name(run.records)
    assert {one["final_decision"] for name, one in records.items() if name.startswith("blue")} == {"Safe"}
    assert records["circle00.png"]["matched_categories"] == [CIRCLE]
    assert records["square00.png"]["matched_categories"] == [RED]
    between = 0
    for one in records.values():
        scores = one["category_scores"]
        expected = [name for name, least in ((RED, 0.3), (CIRCLE, 0.6)) if scores[name] >= least]
        assert one["matched_categories"] == expected
        assert one["final_decision"] == ("NSFW" if expected or one["unsafe_score"] >= 1.0 else "Safe")
        near = abs(scores[RED] - 0.3) <= 0.1 or abs(scores[CIRCLE] - 0.6) <= 0.02
        if near and not one["models_skipped"]:
            assert "review_margin" in one["review_reasons"]
        between += 0.3 <= scores[RED] < 0.6
    assert between, "some must tell the two thresholds apart"


def test_stored_evidence_is_decided_by_the_two_thresholds_too(
    clipmod: Command, tmp_path: Path, pictures: Path
) -> None:
    """By its records, and by scores of all at once."""
    evidence, out, new = tmp_path / "EV", tmp_path / "out.jsonl", tmp_path / "new.jsonl"
    sum_alone = tmp_path / "sum.toml"
    sum_alone.write_text(TWO, encoding="utf-8")
    options = ("--models", TINY_L, "--no-isolate", "--coverage", "centre")
    stored = clipmod("scan", pictures, "--policy", sum_alone, *options, "-o", out, "--evidence", evidence)
    assert stored.code == 0, stored.stderr
    policy = policy_with(tmp_path, circle="threshold = 0.6\nreview_margin = 0.02", red="threshold = 0.3")
    scanned = by_name(clipmod("scan", pictures, "--policy", policy, *options).records)
    run = clipmod("rescore", evidence, "--policy", policy, "-o", new)
    assert run.code == 0, run.stderr
    rescored = by_name(read_records(new.read_bytes()))
    assert rescored.keys() == scanned.keys()
    between = 0
    for name, one in rescored.items():
        scores = one["category_scores"]
        expected = [name for name, least in ((RED, 0.3), (CIRCLE, 0.6)) if scores[name] >= least]
        assert one["matched_categories"] == expected
        assert one["final_decision"] == ("NSFW" if expected or one["unsafe_score"] >= 1.0 else "Safe")
        kept = ("category_scores", "matched_categories", "final_decision", "review_reasons", "policy_hash")
        assert [one[key] for key in kept] == [scanned[name][key] for key in kept]
        between += 0.3 <= max(scores.values()) < 0.6
    assert between, "some must tell the two thresholds apart"
    run = clipmod("policies", "diff", sum_alone, policy, "--evidence", evidence, "--json")
    assert run.code == 0, run.stderr
    before = by_name(read_records(out.read_bytes()))
    outcomes = {
        name: [(record["final_decision"], record["needs_review"]) for record in (before[name], one)]
        for name, one in rescored.items()
    }
    changed = {name for name, (old, now) in outcomes.items() if old != now}
    assert {Path(one["source"]).name for one in json.loads(run.stdout)["changes"]} == changed
    assert {now[0] for _, now in outcomes.values()} == {"NSFW", "Safe"}


def test_early_exit_changes_no_outcome_under_thresholds_of_categories(
    clipmod: Command, tmp_path: Path, pictures: Path
) -> None:
    policy = policy_with(tmp_path, circle="threshold = 0.6", red="threshold = 0.3\nreview_margin = 0.05")
    words = ("scan", pictures, "--policy", policy, "--models", TINY_ENSEMBLE, "--no-isolate")
    full = clipmod(*words, "--coverage", "centre").records
    early = clipmod(*words, "--coverage", "centre", "--early-exit", "exact").records
    kept = ("source", "final_decision", "needs_review", "run_key")
    assert [[one[name] for name in kept] for one in early] == [[one[name] for name in kept] for one in full]
    assert any(one["models_skipped"] for one in early)


def test_a_threshold_of_a_category_is_another_policy_to_resume_with(
    clipmod: Command, tmp_path: Path, pictures: Path
) -> None:
    words = (
        "scan",
        pictures / "circle00.png",
        "--models",
        TINY_L,
        "-o",
        tmp_path / "out.jsonl",
        "--no-isolate",
    )
    assert clipmod(*words, "--policy", policy_with(tmp_path, red="threshold = 0.3")).code == 0
    first = json.loads((tmp_path / "out.jsonl").read_bytes())
    assert clipmod(*words, "--policy", policy_with(tmp_path, red="threshold = 0.31")).code == 2
    assert json.loads((tmp_path / "out.jsonl").read_bytes()) == first


def test_a_threshold_in_the_wrong_place_is_told_with_its_line(clipmod: Command, tmp_path: Path) -> None:
    policy = policy_with(tmp_path, red="threshold = 3")
    run = clipmod("policies", "check", policy)
    line = policy.read_text(encoding="utf-8").splitlines().index("threshold = 3") + 1
    assert run.code == 2
    assert f'{policy}:{line}: "threshold" in [[categories]] must be a number from 0 to 1, not 3' in run.stderr
