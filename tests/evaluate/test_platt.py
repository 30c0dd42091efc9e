"""Platt's calibration: what it is fitted on, against scikit-learn's own, and when it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.samples import LabelledSet
from clipmod_cli.evaluate.tuning.platt import CalibrationCheck, calibrate, check_on
from clipmod_cli.judge.calibration import calibrated, log_odds
from clipmod_cli.judge.policy.tuning import PlattCalibration
from tests.evaluate.kit import labelled

SLOPE, INTERCEPT = 0.4, -1.5
"""Of the truth below: scores that are far too sure."""


def drawn(count: int, seed: int = 8) -> LabelledSet:
    """Return inputs whose scores are NSFW with the probability that the numbers above give them."""
    rng = np.random.default_rng(seed)
    scores = (1 / (1 + np.exp(-rng.normal(0, 4, count)))).round(6)
    truth = PlattCalibration(slope=SLOPE, intercept=INTERCEPT, positives=0, negatives=0)
    positive = rng.random(count) < calibrated(scores, truth)
    return labelled([bool(one) for one in positive], scores.tolist())


def names(found: LabelledSet) -> set[str]:
    return {pair.judged.source for pair in found.pairs}


def chosen_from(whole: LabelledSet, held: LabelledSet) -> LabelledSet:
    return whole.with_pairs([pair for pair in whole.pairs if pair.judged.source not in names(held)])


def arrays(found: LabelledSet) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores = [float(pair.judged.unsafe_score or 0.0) for pair in found.pairs]
    return np.array(scores), np.array([pair.label.decision == "NSFW" for pair in found.pairs])


def test_it_is_fitted_on_a_third_of_the_labels_and_never_on_those_of_the_threshold() -> None:
    whole = drawn(900)
    found, held = calibrate(whole)
    fitted = chosen_from(whole, held)
    assert 240 < len(fitted.pairs) < 360
    _, positive = arrays(fitted)
    assert (found.positives, found.negatives) == (positive.sum(), (~positive).sum())
    others = [replace(pair, label=whole.pairs[0].label) for pair in held.pairs]
    again, _ = calibrate(whole.with_pairs([*fitted.pairs, *others]))
    assert again == found, "the labels of the threshold change nothing"
    shuffled, same = calibrate(whole.with_pairs(whole.pairs[::-1]))
    assert (shuffled.slope, shuffled.intercept) == pytest.approx((found.slope, found.intercept), abs=1e-6)
    assert names(same) == names(held)


def test_it_is_scikit_learns_own_with_platts_targets() -> None:
    from sklearn.calibration import _sigmoid_calibration

    whole = drawn(900)
    found, held = calibrate(whole)
    scores, positive = arrays(chosen_from(whole, held))
    slope, intercept = _sigmoid_calibration(log_odds(scores), positive.astype(float))
    assert (found.slope, found.intercept) == pytest.approx((-slope, -intercept), abs=1e-3)
    target = np.where(positive, (found.positives + 1) / (found.positives + 2), 1 / (found.negatives + 2))
    residual = target - 1 / (1 + np.exp(-(found.slope * log_odds(scores) + found.intercept)))
    assert residual.mean() == pytest.approx(0, abs=1e-6)
    assert (residual * log_odds(scores)).mean() == pytest.approx(0, abs=1e-6)


def test_with_many_labels_it_finds_the_truth_and_fits_labels_that_it_never_saw() -> None:
    found, held = calibrate(drawn(6_000))
    assert (found.slope, found.intercept) == pytest.approx((SLOPE, INTERCEPT), abs=0.2)
    check = check_on(held, found)
    assert isinstance(check, CalibrationCheck)
    assert check.after.ece < 0.03 < 0.15 < check.before.ece
    scores, positive = arrays(held)
    assert check.before.brier == pytest.approx(np.mean((scores - positive) ** 2))
    assert check.after.brier == pytest.approx(np.mean((calibrated(scores, found) - positive) ** 2))


def test_for_another_prevalence_the_odds_are_moved_and_the_check_is_weighted() -> None:
    whole = drawn(6_000)
    plain, held = calibrate(whole)
    rare, _ = calibrate(whole, 0.01)
    share = plain.positives / (plain.positives + plain.negatives)
    assert rare.slope == plain.slope
    assert rare.intercept - plain.intercept == pytest.approx(
        np.log(0.01 / 0.99) - np.log(share / (1 - share)), abs=1e-9
    )
    assert (rare.prevalence, plain.prevalence) == (0.01, None)
    scores, positive = arrays(held)
    expected = calibrated(scores, rare)
    of_positives, of_negatives = ((1 - expected[positive]) ** 2).mean(), (expected[~positive] ** 2).mean()
    check = check_on(held, rare)
    assert check is not None
    assert check.after.brier == pytest.approx(0.01 * of_positives + 0.99 * of_negatives)
    # Bayes: the mean probability where one of a hundred is positive is that share
    weight = np.where(positive, 0.01 / positive.mean(), 0.99 / (1 - positive.mean()))
    assert np.average(expected, weights=weight) == pytest.approx(0.01, abs=0.003)


def test_near_duplicates_are_in_the_same_part() -> None:
    whole = drawn(900)
    contents = [pair.judged.content for pair in whole.pairs]
    groups = {content: contents[number - number % 10] for number, content in enumerate(contents)}
    grouped = replace(whole, groups=groups)
    _, held = calibrate(grouped)
    parts = {pair.judged.content for pair in held.pairs}
    for first in range(0, 900, 10):
        assert len({content in parts for content in contents[first : first + 10]}) == 1
    assert 300 < len(held.pairs) < 850
    one = replace(whole, groups=dict.fromkeys(contents, contents[0]))
    with pytest.raises(UsageError) as caught:  # all for the calibration, or none
        calibrate(one.with_pairs(one.pairs[:60]))
    assert "near-duplicates together (the largest group has 60)" in str(caught.value)


def test_inputs_that_could_not_be_judged_are_left_out() -> None:
    whole = drawn(600)
    lost = labelled([True] * 50, [None] * 50)
    moved = [
        replace(pair, judged=replace(pair.judged, sha256=f"{n:064x}", source=f"lost/{n}"))
        for n, pair in enumerate(lost.pairs, start=10_000)
    ]
    found, _ = calibrate(whole)
    again, held = calibrate(whole.with_pairs([*whole.pairs, *moved]))
    assert again == found
    assert len(names(held) & {f"lost/{n}" for n in range(10_000, 10_050)}) > 10


def refused(positive: Sequence[bool], scores: Sequence[float | None]) -> str:
    with pytest.raises(UsageError) as caught:
        calibrate(labelled(positive, scores))
    assert "Leave --calibrate out, or" in str(caught.value)
    return str(caught.value)


def test_too_few_labels_are_refused_with_how_many_are_needed() -> None:
    told = refused([True] * 40 + [False] * 300, [0.6] * 40 + [0.4] * 300)
    assert "other inputs are too few for a calibration, which needs 20 of both" in told
    assert "some 60 of both are needed" in told


def test_scores_that_know_nothing_or_the_contrary_are_refused() -> None:
    rng = np.random.default_rng(3)
    low, high = rng.uniform(0.1, 0.6, 200).round(6).tolist(), rng.uniform(0.4, 0.9, 200).round(6).tolist()
    told = refused([True] * 200 + [False] * 200, [*low, *high])
    assert "do not score higher than the others (the slope of the calibration is -" in told
    assert "all inputs for the calibration score 0.5" in refused([True, False] * 200, [0.5] * 400)


def test_scores_that_separate_the_labels_are_refused() -> None:
    rng = np.random.default_rng(3)
    low, high = rng.uniform(0.1, 0.5, 200).round(6).tolist(), rng.uniform(0.5, 0.9, 200).round(6).tolist()
    assert "score higher than all others" in refused([False] * 200 + [True] * 200, [*low, *high])


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=20),
    st.floats(1e-3, 50),
    st.floats(-100, 100),
)
def test_a_higher_score_never_has_a_lower_probability(
    scores: list[float], slope: float, intercept: float
) -> None:
    found = PlattCalibration(slope=slope, intercept=intercept, positives=1, negatives=1)
    values = calibrated(np.sort(scores), found)
    assert (np.diff(values) >= 0).all()
    assert ((values >= 0) & (values <= 1)).all()
    assert values.tolist() == [float(calibrated(one, found)) for one in np.sort(scores)]
