"""`--early-exit exact`: the same outcomes as without, from fewer models, and records that say so."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipmod_cli.records import Record
from tests.end_to_end.command import SHAPES, TINY, TINY_ENSEMBLE, Command, read_records
from tests.tiny.shapes import labelled

ALL_OF_IT = ("--policy", str(SHAPES), "--models", TINY_ENSEMBLE, "--no-isolate")
ENSEMBLE = (*ALL_OF_IT, "--coverage", "centre")
"""With all views, models are skipped for a picture only where all of its views are certain."""

WEIGHTS = {"tiny-l": 0.40, "tiny-h": 0.35, "tiny-g": 0.25}
PICTURES = 150
OUTCOME = ("source", "status", "final_decision", "needs_review", "degraded", "run_key", "sha256")


def draw_mixed(folder: Path, count: int) -> None:
    """Write pictures; every third is two in one, of which models are less certain."""
    plain = [picture for picture, _ in labelled(count + 1, seed=5)]
    for number, (picture, other) in enumerate(pairwise(plain)):
        mixed = Image.blend(picture, other.resize(picture.size), 0.4) if number % 3 == 0 else picture
        mixed.save(folder / f"{number:03}.png")


def unsafe_of(record: dict[str, Any], weights: dict[str, float]) -> float:
    """Return the weighted mean of what each model gave the one UNSAFE category."""
    said = {
        name: model["category_probabilities"]["red_circle"]
        for name, model in record["per_model_predictions"].items()
    }
    return float(sum(weights[name] * said[name] for name in said) / sum(weights[name] for name in said))


@pytest.mark.parametrize(
    ("words", "threshold", "least"),
    [(ENSEMBLE, "0.5", PICTURES // 2), (ENSEMBLE, "0.05", 1), (ALL_OF_IT, "0.5", PICTURES // 3)],
    ids=["middle", "low threshold", "all views"],
)
def test_every_outcome_is_that_of_all_models(
    clipmod: Command, folder: Path, words: tuple[str, ...], threshold: str, least: int
) -> None:
    """Under 0.25, the last one's weight, nothing can be Safe without it."""
    draw_mixed(folder, PICTURES)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    command: tuple[str | Path, ...] = ("scan", folder, TINY / "pictures", *words, "--threshold", threshold)
    full = clipmod(*command).records
    early = clipmod(*command, "--early-exit", "exact").records
    assert [[one[name] for name in OUTCOME] for one in early] == [
        [one[name] for name in OUTCOME] for one in full
    ]
    spared = [(one, other) for one, other in zip(early, full, strict=True) if one["models_skipped"]]
    assert len(spared) >= least
    for one, other in spared:
        assert one["kind"] == "image"
        assert [*one["models_used"], *one["models_skipped"]] == other["models_used"] == list(WEIGHTS)
        assert list(one["per_model_predictions"]) == one["models_used"]
        low, high = one["unsafe_score_bounds"]
        assert low <= one["unsafe_score"] <= high
        assert low - 1e-5 <= other["unsafe_score"] <= high + 1e-5
        assert (high < one["threshold"]) == (one["final_decision"] == "Safe")
        assert one["unsafe_score"] == pytest.approx(unsafe_of(one, WEIGHTS), abs=1e-5)
        assert sum(one["category_ensemble_probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    for one, other in zip(early, full, strict=True):
        if one["models_skipped"] is None:
            assert one["unsafe_score_bounds"] is None
            assert one["models_used"] == other["models_used"]


def test_the_summary_says_who_was_asked_how_often(clipmod: Command, folder: Path) -> None:
    draw_mixed(folder, 12)
    run = clipmod("scan", folder, *ENSEMBLE, "--early-exit", "exact")
    asked = sum("tiny-g" in record["models_used"] for record in run.records)
    assert asked < 12
    assert f"tiny-l 12 of 12, tiny-h 12 of 12, tiny-g {asked} of 12" in " ".join(run.stderr.split())
    assert "scored by" not in clipmod("scan", folder, *ENSEMBLE).stderr


def test_an_output_goes_on_with_and_without(clipmod: Command, folder: Path, out: Path) -> None:
    draw_mixed(folder, 8)
    assert clipmod("scan", folder, *ENSEMBLE, "-o", out, "--limit", "4").code == 0
    assert clipmod("scan", folder, *ENSEMBLE, "-o", out, "--early-exit", "exact").code == 0
    records = read_records(out.read_bytes())
    assert len(records) == 8
    assert not any(record["models_skipped"] for record in records[:4])
    assert any(record["models_skipped"] for record in records[4:])


def test_what_was_skipped_comes_back_from_a_line_and_from_the_store(
    clipmod: Command, folder: Path, tmp_path: Path
) -> None:
    draw_mixed(folder, 6)
    db = tmp_path / "store.duckdb"
    run = clipmod("scan", folder, *ENSEMBLE, "--early-exit", "exact", "--db", db)
    assert run.stdout
    for line in run.stdout.splitlines():
        record = Record.model_validate_json(line)
        assert json.loads(line)["models_skipped"] == record.models_skipped
    query = 'SELECT models_skipped, unsafe_score_bounds FROM items ORDER BY "index"'
    rows = map(json.loads, clipmod("stats", "--db", db, "--json", "--sql", query).stdout.splitlines())
    stored = [(row["models_skipped"], row["unsafe_score_bounds"]) for row in rows]
    assert stored == [(one["models_skipped"], one["unsafe_score_bounds"]) for one in run.records]
    assert any(skipped == ["tiny-g"] for skipped, _ in stored)
