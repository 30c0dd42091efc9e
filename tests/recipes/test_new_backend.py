"""The recipe "Add a model backend": one file and one entry in the table judge pictures by `clipmod scan`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from clipmod_cli.errors import SpecError
from clipmod_cli.models.registry import BACKENDS
from clipmod_cli.models.specs import parse_models, parse_spec
from tests.end_to_end.command import Command
from tests.recipes.toy_backend import RednessBackend

POLICY = """
name = "red"
[[categories]]
name = "other"
safety = "SAFE"
labels = { redness = ["other"] }
[[categories]]
name = "red"
safety = "UNSAFE"
labels = { redness = ["red"] }
"""


@pytest.fixture(autouse=True)
def entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "redness", RednessBackend())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name, colour in (("red", (250, 5, 5)), ("blue", (5, 5, 250))):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "policy.toml").write_text(POLICY)
    return tmp_path


def test_its_spec_is_parsed() -> None:
    assert isinstance(parse_spec("redness").backend, RednessBackend)
    with pytest.raises(SpecError, match="write redness"):
        parse_models(["redness:more"])
    with pytest.raises(SpecError, match="Did you mean redness"):
        parse_models(["rednes"])


@pytest.mark.parametrize("models", ["redness", "redness=0.9,nudenet=0.1"])
def test_it_judges_by_the_command(clipmod: Command, pictures: Path, models: str) -> None:
    partial = ["--allow-partial"] if "nudenet" in models else []
    if partial:
        policy = POLICY.replace('safety = "SAFE"', 'safety = "SAFE"\notherwise = true').replace(
            '{ redness = ["red"] }', '{ redness = ["red"], nudenet = ["FEMALE_BREAST_EXPOSED"] }'
        )
        (pictures / "policy.toml").write_text(policy)
    words = ("scan", pictures / "red.png", pictures / "blue.png", "--policy", pictures / "policy.toml")
    done = clipmod(*words, "--models", models, *partial)
    assert done.code == 0, done.stderr
    assert [one["final_decision"] for one in done.records] == ["NSFW", "Safe"]
    assert "redness" in done.records[0]["models_used"]


def test_it_is_listed_and_verified(clipmod: Command) -> None:
    rows = [json.loads(line) for line in clipmod("models", "list", "--json").stdout.splitlines()]
    assert [row["spec"] for row in rows if "redness" in row["spec"]] == ["redness"]
    assert b"redness: verified" in clipmod("models", "verify", "redness").stdout
