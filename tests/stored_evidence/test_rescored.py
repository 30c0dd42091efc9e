"""Evidence that is stored and read again is judged as it was when the pictures were looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

import clipmod_cli as clipmod
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.evidence.folder import open_folder
from clipmod_cli.evidence.identity import EvidenceIdentity
from clipmod_cli.evidence.rescore import rescore
from clipmod_cli.evidence.stored_models import stored_models
from clipmod_cli.evidence.writer import EvidenceWriter
from clipmod_cli.judge.policy.values import Policy, Scoring
from clipmod_cli.judge.prepare import criteria_of, prepare
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.hub.weights import WeightFiles, locate
from clipmod_cli.pipeline import Options, run
from clipmod_cli.records import RunFacts, to_record
from clipmod_cli.results import Result
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.registry import expand
from tests.end_to_end.command import SHAPES, TINY, TINY_ENSEMBLE
from tests.tiny.shapes import draw_clear
from tests.video.films import scene, write_film

SQUARE = (96, 96)
FACTS = RunFacts(policy="shapes", policy_hash="h", threshold=0.5, run_key="k", run_id="r")


@pytest.fixture(scope="module")
def policy() -> Policy:
    return clipmod.load_policy(str(SHAPES))


@pytest.fixture(scope="module")
def ensemble(policy: Policy) -> Ensemble:
    return clipmod.load_ensemble(TINY_ENSEMBLE.split(","), policy)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several views and formats, an animation, films with a hit's edges, and broken files."""
    folder = tmp_path_factory.mktemp("media")
    wide = Image.new("RGB", (900, 120), "white")
    wide.paste(draw_clear("red", "circle", SQUARE), (790, 12))
    wide.save(folder / "wide.png")
    write_film(folder / "film.mp4", scene(80, range(33, 57), SQUARE), keys=(20, 40, 60))
    (folder / "broken.jpg").write_bytes((TINY / "pictures" / "red-circle.jpg").read_bytes()[:200])
    (folder / "nothing.jpg").write_bytes(b"")
    return folder


def identity_of(ensemble: Ensemble, policy: Policy) -> EvidenceIdentity:
    return EvidenceIdentity.of(ensemble, decoding={}, decoding_key="k", max_gap_s=policy.max_gap_s)


def _scan(
    sources: Sequence[Path], ensemble: Ensemble, policy: Policy, folder: Path, threshold: float = 0.5
) -> list[Result]:
    writer = EvidenceWriter.open(folder, identity_of(ensemble, policy), directory=None, overwrite=False)
    writer.begin(0)
    try:
        items = expand([str(source) for source in sources], Rules())
        criteria = prepare(ensemble, policy, threshold=threshold)
        options = Options(decode=DecodeOptions(), workers=2)
        return list(run(items, ensemble, criteria, options, keep=writer))
    finally:
        writer.close()


def _fetch(spec: ModelSpec) -> WeightFiles:
    found = locate(spec)
    assert found
    return found


def _rescore(folder: Path, policy: Policy, threshold: float = 0.5) -> list[Result]:
    stored = open_folder(folder)
    models = stored_models(stored.identity, _fetch)
    criteria = criteria_of(models, policy, threshold=threshold, degraded=stored.identity.degraded)
    return list(rescore(stored, criteria, max_gap_s=policy.max_gap_s))


def _facts_of(result: Result) -> Any:
    """Return the record of a result without the times of the run."""
    record = to_record(result, FACTS, frames_detail=True).model_dump()
    for name in ("total_time_ms", "decode_time_ms", "inference_time_ms"):
        record.pop(name)
    for prediction in (record["per_model_predictions"] or {}).values():
        prediction.pop("inference_time_ms")
    return record


def independent(policy: Policy) -> Policy:
    """Return the policy with independent scoring, in which a red square is no red circle."""
    *safe, circle = policy.categories
    opposed = replace(circle, negatives=("red ellipse", "crimson square"), threshold=0.4)
    return replace(policy, scoring="independent", categories=(*safe, opposed))


@pytest.mark.parametrize("scoring", get_args(Scoring))
def test_rescored_records_are_those_of_the_run(
    media: Path, ensemble: Ensemble, policy: Policy, tmp_path: Path, scoring: Scoring
) -> None:
    policy = independent(policy) if scoring == "independent" else policy
    scanned = _scan([TINY / "pictures", media, media / "missing.jpg"], ensemble, policy, tmp_path)
    rescored = _rescore(tmp_path, policy)
    assert [_facts_of(result) for result in rescored] == [_facts_of(result) for result in scanned]
    assert any(isinstance(r, clipmod.Verdict) and r.segments for r in rescored)
    assert any(isinstance(r, clipmod.Verdict) and r.views_scored > 1 for r in rescored)
    assert sum(isinstance(r, clipmod.Failure) for r in rescored) == 3


def test_another_threshold_gives_what_a_scan_with_it_gives(
    media: Path, ensemble: Ensemble, policy: Policy, tmp_path: Path
) -> None:
    _scan([TINY / "pictures", media / "wide.png"], ensemble, policy, tmp_path / "a")
    again = _scan([TINY / "pictures", media / "wide.png"], ensemble, policy, tmp_path / "b", threshold=0.001)
    rescored = _rescore(tmp_path / "a", policy, threshold=0.001)
    assert [_facts_of(result) for result in rescored] == [_facts_of(result) for result in again]
    decisions = [r.decision for r in rescored if isinstance(r, clipmod.Verdict)]
    assert decisions.count("NSFW") > len(decisions) / 2


def test_a_second_look_that_is_not_stored_needs_review(
    media: Path, ensemble: Ensemble, policy: Policy, tmp_path: Path
) -> None:
    _scan([media / "film.mp4"], ensemble, policy, tmp_path, threshold=1.0)  # no frame is over it
    (result,) = _rescore(tmp_path, policy)
    assert isinstance(result, clipmod.Verdict)
    assert result.decision == "NSFW"
    assert "unsampled" in result.review_reasons


def test_a_shorter_gap_between_key_frames_than_was_stored_needs_review(
    ensemble: Ensemble, policy: Policy, tmp_path: Path
) -> None:
    write_film(tmp_path / "film.mp4", scene(80, (), SQUARE), keys=(20, 40, 60))
    writer = EvidenceWriter.open(
        tmp_path / "ev", identity_of(ensemble, policy), directory=None, overwrite=False
    )
    criteria = prepare(ensemble, policy, threshold=0.5)
    items = expand([str(tmp_path / "film.mp4")], Rules())
    (scanned,) = run(items, ensemble, criteria, Options(workers=1), keep=writer)
    writer.close()
    assert isinstance(scanned, clipmod.Verdict)
    gap = scanned.media.largest_gap_s
    assert gap
    stricter = replace(policy, max_gap_s=gap / 2)
    (result,) = _rescore(tmp_path / "ev", policy)
    assert "unsampled" not in getattr(result, "review_reasons", ())
    stored = open_folder(tmp_path / "ev")
    models = stored_models(stored.identity, _fetch)
    strict = criteria_of(models, stricter, threshold=0.5, degraded=False)
    (result,) = rescore(stored, strict, max_gap_s=policy.max_gap_s)
    assert isinstance(result, clipmod.Verdict)
    assert "unsampled" in result.review_reasons
