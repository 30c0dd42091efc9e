"""A calibrated policy: the same decisions, and a probability beside the score where all models gave it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from clipmod_cli.judge.calibration import calibrated
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.judging import judge, judge_until_hit
from clipmod_cli.judge.policy.tuning import PlattCalibration, Promise, TunedModel, Tuning
from clipmod_cli.records import to_record
from clipmod_cli.types import Verdict
from tests.evidence import animation, criteria_of, evidence, saw_unsafe
from tests.results import RUN

CALIBRATION = PlattCalibration(slope=0.7, intercept=-2.0, positives=40, negatives=80)
SUM = Promise(threshold=0.4, rate="recall", target=0.9, delta=0.05, bound=0.91, positives=60, inputs=200)


def criteria(calibration: PlattCalibration | None = CALIBRATION) -> Criteria:
    plain = criteria_of(weights=(0.6, 0.4))
    models = tuple(TunedModel(spec=one.name, revision="1", weight=one.weight) for one in plain.judges)
    tuning = Tuning(
        base_hash=plain.policy.hash,
        tuned_on=date(2026, 11, 29),
        models=models,
        promises=(SUM,),
        calibration=calibration,
    )
    return Criteria(policy=plain.policy.with_tuning(tuning), threshold=SUM.threshold, judges=plain.judges)


def verdict(*scores: float, judged_by: Criteria | None = None, **fields: object) -> Verdict:
    seen = evidence(*(saw_unsafe(score) for score in scores))
    (found,) = judge([replace(seen, **fields)], judged_by or criteria())  # type: ignore[arg-type]
    assert isinstance(found, Verdict)
    return found


@pytest.mark.parametrize("score", [0.0, 0.1, 0.399999, 0.4, 0.5, 0.93, 1.0])
def test_decisions_are_those_without_it_and_the_probability_stands_beside(score: float) -> None:
    with_it, without = verdict(score, score), verdict(score, score, judged_by=criteria(None))
    assert (with_it.decision, with_it.review_reasons) == (without.decision, without.review_reasons)
    assert with_it.deciding.unsafe_score == without.deciding.unsafe_score
    assert without.nsfw_probability is None
    odds = np.log(score / (1 - score)) if 0 < score < 1 else np.copysign(np.log(1 / 5e-7 - 1), score - 0.5)
    expected = 1 / (1 + np.exp(-(0.7 * odds - 2.0)))
    assert with_it.nsfw_probability == pytest.approx(expected, abs=1e-5)
    record = to_record(with_it, RUN)
    assert record.nsfw_probability == with_it.nsfw_probability
    assert record.unsafe_score == with_it.deciding.unsafe_score


def test_the_hash_of_the_policy_tells_calibrations_apart() -> None:
    other = replace(CALIBRATION, intercept=-2.1)
    hashes = {criteria(one).policy.hash for one in (None, CALIBRATION, other)}
    assert len(hashes) == 3


def test_a_score_that_not_all_models_gave_has_no_probability() -> None:
    whole = verdict(0.9, 0.9)
    first = next(iter(whole.deciding.by_model))
    seen = evidence(saw_unsafe(0.9), saw_unsafe(0.9)).seen
    alone = verdict(0.9, 0.9, seen={first: seen[first]}, stand_in=True)
    assert alone.decision == "NSFW"
    assert alone.nsfw_probability is None
    others = tuple(name for name in seen if name != first)
    skipped = verdict(0.9, 0.9, seen={first: seen[first]}, skipped=others)
    assert skipped.nsfw_probability is None


def test_a_film_has_the_probability_of_its_worst_frame_unless_it_was_left_early() -> None:
    frames = animation((0.1, 0.5, 0.8))
    plain = criteria()
    alone = replace(plain, judges=plain.judges[:1])
    (whole,) = judge(frames, alone)
    assert isinstance(whole, Verdict)
    assert whole.nsfw_probability == float(calibrated(0.8, CALIBRATION))
    (early,) = judge_until_hit(frames, alone, set())
    assert isinstance(early, Verdict)
    assert early.decision == "NSFW"
    assert early.nsfw_probability is None
