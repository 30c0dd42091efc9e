"""A classifier of the hub judges by the default policy, which its undivided label allows."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.command import TINY, Command
from tests.hub import FakeHub
from tests.models.backends import save_random_vit


def test_falconsais_classifier_judges_by_the_default_policy(clipmod: Command, tmp_path: Path) -> None:
    folder = save_random_vit(tmp_path / "model", labels=("normal", "nsfw"))
    with FakeHub() as hub:
        name = "Falconsai/nsfw_image_detection"
        hub.add(name, {path.name: path.read_bytes() for path in folder.iterdir()})
        environment = {"HF_ENDPOINT": hub.endpoint}
        run = clipmod.process(
            "scan", TINY / "pictures", "--models", f"hf:{name}", "--no-cache", env=environment
        )
        both = clipmod.process(
            "scan", TINY / "pictures", "--models", f"hf:{name},open_nsfw", "--no-cache", env=environment
        )
    assert run.code == both.code == 0, run.stderr + both.stderr
    for record in run.records:
        scores = record["category_ensemble_probabilities"]
        assert record["policy"] == "nsfw"
        assert (
            record["unsafe_score"] == scores["nudity"]
        )  # nsfw counts once, as the mildest of its categories
        assert scores["explicit"] == scores["suggestive"] == 0.0
        assert (record["final_decision"] == "NSFW") == (record["unsafe_score"] >= 0.5)
    assert {tuple(record["models_used"]) for record in both.records} == {(name, "open_nsfw")}
    assert {record["model_agreement"] for record in both.records} <= {0.5, 1.0}
