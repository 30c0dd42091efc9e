"""Labels of a classifier that no category of the policy has: told at the start, and never silently Safe."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.command import Command, Record
from tests.server.classifier.making import COLOURS, plain, save_colour_classifier

POLICY = """
name = "colours"

[[categories]]
name = "harmless"
safety = "SAFE"
labels = {{ "hf:{model}" = ["blue"] }}

[[categories]]
name = "harmful"
safety = "UNSAFE"
labels = {{ "hf:{model}" = ["red"] }}
"""
WARNING = "maps these labels of classifier nowhere: 'green'"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A classifier whose label `green` no category has."""
    return save_colour_classifier(tmp_path / "classifier")


def scan(clipmod: Command, model: Path, picture: Path, *, rest: str = "") -> tuple[Record, str]:
    """Return the record of a picture and what was said on stderr."""
    policy = picture.with_name("colours.toml")
    policy.write_text(POLICY.format(model=model) + rest.format(model=model), encoding="utf-8")
    outcome = clipmod("scan", picture, "--json", "--models", f"hf:{model}", "--policy", policy)
    (record,) = outcome.records
    return record, outcome.stderr


@pytest.mark.parametrize(
    ("colour", "decision", "reasons"),
    [("blue", "Safe", []), ("green", "Safe", ["unmapped_labels"]), ("red", "NSFW", [])],
)
def test_most_of_the_score_without_a_category_needs_review(
    clipmod: Command, model: Path, tmp_path: Path, colour: str, decision: str, reasons: list[str]
) -> None:
    plain(colour).save(tmp_path / "picture.png")
    record, said = scan(clipmod, model, tmp_path / "picture.png")
    found = set(record["review_reasons"]) & {"unmapped_labels"}
    if colour != "green":  # of green, chance decides between the two mapped colours
        assert record["final_decision"] == decision
    assert found == set(reasons)
    share = record["per_model_predictions"]["classifier"]["unmapped_share"]
    assert (share > 0.9) == (colour == "green")
    assert said.count(WARNING) == 1


def test_a_label_named_as_known_is_not_told_and_needs_the_same_review(
    clipmod: Command, model: Path, tmp_path: Path
) -> None:
    plain("green").save(tmp_path / "picture.png")
    named = '[not_judged]\n"hf:{model}" = ["green"]\n'
    record, said = scan(clipmod, model, tmp_path / "picture.png", rest=named)
    assert "nowhere" not in said
    assert "unmapped_labels" in record["review_reasons"]


def test_a_label_that_the_model_lacks_is_refused(clipmod: Command, model: Path, tmp_path: Path) -> None:
    plain("green").save(tmp_path / "picture.png")
    policy = tmp_path / "colours.toml"
    named = '[not_judged]\n"hf:{model}" = ["gren"]\n'
    policy.write_text((POLICY + named).format(model=model), encoding="utf-8")
    outcome = clipmod("scan", tmp_path / "picture.png", "--models", f"hf:{model}", "--policy", policy)
    assert outcome.code == 2
    assert "names labels that classifier does not have: gren" in outcome.stderr


def test_one_view_of_many_is_enough(clipmod: Command, model: Path, tmp_path: Path) -> None:
    """The deciding view is another one: the red that is mapped."""
    strip = Image.new("RGB", (96 * 6, 96), COLOURS["green"])
    strip.paste(COLOURS["red"], (0, 0, 96 * 3, 96))
    strip.save(tmp_path / "strip.png")
    record, _ = scan(clipmod, model, tmp_path / "strip.png")
    assert record["final_decision"] == "NSFW"
    assert record["per_model_predictions"]["classifier"]["unmapped_share"] < 0.5
    assert "unmapped_labels" in record["review_reasons"]
