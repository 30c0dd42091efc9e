"""Promised thresholds: exact bounds, refusals with what is possible, and promises kept in simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import binom, binomtest

from clipmod_cli.evaluate.tuning.bounds import (
    LabelledScores,
    PromisedThreshold,
    Scores,
    Shortfall,
    lower_bound,
    threshold_for_budget,
    threshold_for_precision,
    threshold_for_recall,
    upper_bound,
)

TRIALS = 2_000
DELTA = 0.05
MOST_BROKEN = DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / TRIALS)
"""Of the trials: three standard errors over what is promised."""

LARGE = 10**6


def scores_of(values: object) -> Scores:
    return np.asarray(values, dtype=np.float64)


def draw(rng: np.random.Generator, mean: float, count: int, step: float = 1e-6) -> Scores:
    """Return scores 0..1, normal in probits, on a grid: a coarse one has many ties."""
    return scores_of(np.round(ndtr(rng.normal(mean, 1.0, count)) / step) * step).round(6)


def share_over(threshold: float, mean: float, step: float = 1e-6) -> float:
    """Return the true share of such scores at or over a threshold."""
    edge = (math.ceil(threshold / step - 1e-6) - 0.5) * step  # the least value that is rounded to it
    return 1.0 if edge <= 0 else float(ndtr(mean - ndtri(min(edge, 1.0))))


@pytest.mark.parametrize(("hits", "trials"), [(0, 7), (1, 7), (30, 59), (58, 59), (59, 59), (400, 1000)])
def test_bounds_are_those_of_clopper_and_pearson(hits: int, trials: int) -> None:
    low = binomtest(hits, trials, alternative="greater").proportion_ci(0.95, method="exact").low
    high = binomtest(hits, trials, alternative="less").proportion_ci(0.95, method="exact").high
    assert float(lower_bound(hits, trials, DELTA)) == pytest.approx(low, abs=1e-12)
    assert float(upper_bound(hits, trials, DELTA)) == pytest.approx(high, abs=1e-12)


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("trials", [5, 59, 300])
def test_bounds_are_wrong_no_more_often_than_promised(rate: float, trials: int) -> None:
    """Summed over everything that can happen, not simulated."""
    hits = np.arange(trials + 1)
    chance = binom.pmf(hits, trials, rate)
    assert chance[lower_bound(hits, trials, DELTA) > rate].sum() <= DELTA
    assert chance[upper_bound(hits, trials, DELTA) < rate].sum() <= DELTA


@pytest.mark.parametrize(("recall", "needed"), [(0.95, 59), (0.99, 299), (0.5, 5)])
def test_so_many_positives_are_needed_for_a_recall(recall: float, needed: int) -> None:
    positives = np.linspace(0.2, 0.9, needed)
    found = threshold_for_recall(positives, recall, DELTA)
    assert isinstance(found, PromisedThreshold)
    assert found.threshold == 0.2, "with so few none may be missed"
    refused = threshold_for_recall(positives[1:], recall, DELTA)
    assert isinstance(refused, Shortfall)
    assert refused.missing == 1
    assert refused.possible == pytest.approx(DELTA ** (1 / (needed - 1)))
    assert refused.possible < recall
    assert refused.threshold == round(positives[1], 6)


def test_nothing_is_promised_by_nothing() -> None:
    nothing = scores_of([])
    assert threshold_for_recall(nothing, 0.95, DELTA) == Shortfall(missing=59, possible=0.0)
    assert threshold_for_budget(nothing, 0.005, DELTA) == Shortfall(missing=598, possible=1.0)
    none = LabelledScores(positives=nothing, negatives=nothing)
    assert isinstance(
        threshold_for_precision(none, none, precision=0.5, prevalence=0.1, delta=DELTA), Shortfall
    )


def test_some_may_be_missed_with_more_positives() -> None:
    found = threshold_for_recall(np.arange(1, 101) / 100, 0.95, DELTA)
    assert isinstance(found, PromisedThreshold)
    assert found.threshold == 0.02
    assert found.bound == pytest.approx(0.9534, abs=1e-4)


def test_an_input_that_could_not_be_judged_is_missed_at_every_threshold() -> None:
    scores = np.concatenate([[-np.inf], np.linspace(0.2, 0.9, 99)])
    found = threshold_for_recall(scores, 0.95, DELTA)
    assert isinstance(found, PromisedThreshold)
    assert found.threshold == 0.2, "the one miss that 100 positives allow is the one that failed"
    refused = threshold_for_recall(np.concatenate([[-np.inf] * 3, np.linspace(0.2, 0.9, 97)]), 0.95, DELTA)
    assert isinstance(refused, Shortfall)
    assert refused.possible == pytest.approx(float(lower_bound(97, 100, DELTA)))
    wanted = 100 + refused.missing
    assert lower_bound(wanted - 3, wanted, DELTA) >= 0.95 > lower_bound(wanted - 4, wanted - 1, DELTA)


def test_positives_that_are_flagged_anyway_allow_the_highest_threshold() -> None:
    found = threshold_for_recall(np.concatenate([[0.1], np.full(99, np.inf)]), 0.95, DELTA)
    assert isinstance(found, PromisedThreshold)
    assert found.threshold == 1.0


def test_a_budget_leaves_out_what_is_as_high_as_the_next_one() -> None:
    scores = np.concatenate([np.full(5, 0.9), np.full(5, 0.8), np.linspace(0.0, 0.7, 990)])
    found = threshold_for_budget(scores, 0.012, DELTA)
    assert isinstance(found, PromisedThreshold)
    assert found.threshold == 0.800001, "six may be flagged, and of those at 0.8 one or all"
    assert found.bound <= 0.012


def test_a_budget_that_certain_hits_exceed_is_refused() -> None:
    scores = np.concatenate([np.ones(50), np.zeros(950)])
    refused = threshold_for_budget(scores, 0.012, DELTA)
    assert isinstance(refused, Shortfall)
    assert (refused.missing, refused.threshold) == (0, 1.0)
    assert refused.possible == pytest.approx(0.0629, abs=1e-3)


def test_a_budget_needs_598_inputs_for_one_in_two_hundred() -> None:
    scores = np.linspace(0, 0.9, 598)
    found = threshold_for_budget(scores, 0.005, DELTA)
    assert isinstance(found, PromisedThreshold)
    assert found.threshold == 0.900001
    assert found.bound == pytest.approx(0.005, abs=1e-5)
    refused = threshold_for_budget(scores[1:], 0.005, DELTA)
    assert isinstance(refused, Shortfall)
    assert refused.missing == 1


def test_too_few_negatives_promise_no_precision() -> None:
    part = LabelledScores(positives=np.full(100, 0.9), negatives=np.full(100, 0.1))
    refused = threshold_for_precision(part, part, precision=0.5, prevalence=0.005, delta=DELTA)
    assert isinstance(refused, Shortfall)
    assert refused.missing > 500
    more = LabelledScores(positives=part.positives, negatives=np.full(100 + refused.missing, 0.1))
    found = threshold_for_precision(part, more, precision=0.5, prevalence=0.005, delta=DELTA)
    assert isinstance(found, PromisedThreshold)
    assert found.threshold == 0.9


def broken(trial: Callable[[np.random.Generator], bool | None], seed: int) -> tuple[int, int]:
    """Return how many of the trials broke their promise, and how many made one."""
    outcomes = [trial(np.random.default_rng((seed, number))) for number in range(TRIALS)]
    made = [one for one in outcomes if one is not None]
    return sum(made), len(made)


@pytest.mark.parametrize(("positives", "mean", "step"), [(59, 1.0, 1e-6), (130, 1.0, 1e-6), (300, 0.0, 0.05)])
def test_a_promised_recall_is_kept(positives: int, mean: float, step: float) -> None:
    def trial(rng: np.random.Generator) -> bool:
        found = threshold_for_recall(draw(rng, mean, positives, step), 0.95, DELTA)
        assert isinstance(found, PromisedThreshold)
        return share_over(found.threshold, mean, step) < 0.95

    failed, made = broken(trial, seed=1)
    assert made == TRIALS
    assert failed / TRIALS <= MOST_BROKEN


def test_a_threshold_picked_by_the_labels_alone_breaks_its_promise() -> None:
    """Why all this is needed."""

    def trial(rng: np.random.Generator) -> bool:
        positives = np.sort(draw(rng, 1.0, 300))
        return share_over(float(positives[15]), 1.0) < 0.95  # 95 % of these are at or over it

    failed, _ = broken(trial, seed=2)
    assert failed / TRIALS > 0.4


def test_a_promised_recall_counts_inputs_that_cannot_be_judged() -> None:
    lost = 0.02

    def trial(rng: np.random.Generator) -> bool | None:
        scores = draw(rng, 1.0, 300)
        scores[rng.random(300) < lost] = -np.inf
        found = threshold_for_recall(scores, 0.95, DELTA)
        if isinstance(found, Shortfall):
            return None
        return (1 - lost) * share_over(found.threshold, 1.0) < 0.95

    failed, made = broken(trial, seed=3)
    assert made > TRIALS / 2
    assert failed / TRIALS <= MOST_BROKEN


@pytest.mark.parametrize(
    ("count", "share", "step"), [(600, 0.005, 1e-6), (2_000, 0.02, 1e-6), (900, 0.1, 0.02)]
)
def test_a_budget_is_kept(count: int, share: float, step: float) -> None:
    def trial(rng: np.random.Generator) -> bool | None:
        found = threshold_for_budget(draw(rng, -0.5, count, step), share, DELTA)
        return None if isinstance(found, Shortfall) else share_over(found.threshold, -0.5, step) > share

    failed, made = broken(trial, seed=4)
    assert made > 0.9 * TRIALS
    assert failed / TRIALS <= MOST_BROKEN


@pytest.mark.parametrize(
    ("sizes", "mean", "precision", "prevalence", "step"),
    [
        ((100, 300), 2.5, 0.5, 0.1, 1e-6),
        ((150, 600), 2.0, 0.6, 0.2, 1e-6),
        ((150, 400), 2.0, 0.5, 0.1, 0.02),
    ],
)
def test_a_promised_precision_is_kept(
    sizes: tuple[int, int], mean: float, precision: float, prevalence: float, step: float
) -> None:
    def trial(rng: np.random.Generator) -> bool | None:
        parts = [
            LabelledScores(
                positives=draw(rng, mean, round(part * sizes[0]), step),
                negatives=draw(rng, 0.0, round(part * sizes[1]), step),
            )
            for part in (0.2, 0.8)
        ]
        found = threshold_for_precision(*parts, precision=precision, prevalence=prevalence, delta=DELTA)
        if isinstance(found, Shortfall):
            return None
        caught = prevalence * share_over(found.threshold, mean, step)
        alarms = (1 - prevalence) * share_over(found.threshold, 0.0, step)
        return caught / (caught + alarms) < precision

    failed, made = broken(trial, seed=5)
    assert made > TRIALS / 3, "a promise that is never made is always kept"
    assert failed / TRIALS <= MOST_BROKEN


def test_what_is_possible_instead_is_promised_too() -> None:
    """The precision that a refusal names holds for its threshold."""

    def trial(rng: np.random.Generator) -> bool | None:
        parts = [
            LabelledScores(positives=draw(rng, 1.5, n), negatives=draw(rng, 0.0, 4 * n)) for n in (20, 80)
        ]
        found = threshold_for_precision(*parts, precision=0.8, prevalence=0.1, delta=DELTA)
        if isinstance(found, PromisedThreshold) or found.threshold is None:
            return None
        caught, alarms = 0.1 * share_over(found.threshold, 1.5), 0.9 * share_over(found.threshold, 0.0)
        return caught / (caught + alarms) < found.possible

    failed, made = broken(trial, seed=6)
    assert made > TRIALS / 3
    assert failed / TRIALS <= MOST_BROKEN


grid = st.integers(0, 20).map(lambda step: step / 20)
samples = st.tuples(st.lists(grid, min_size=20, max_size=150), st.lists(st.just(-math.inf), max_size=2)).map(
    lambda parts: [*parts[0], *parts[1]]
)
rates = st.sampled_from([0.5, 0.8, 0.95])


@given(scores=samples, recall=rates, more=st.lists(grid, min_size=1, max_size=40))
def test_law_more_positives_that_are_caught_never_lower_the_threshold(
    scores: list[float], recall: float, more: list[float]
) -> None:
    before = threshold_for_recall(scores_of(scores), recall, DELTA)
    if isinstance(before, Shortfall):
        return
    caught = [max(one, before.threshold) for one in more]
    after = threshold_for_recall(scores_of(scores + caught), recall, DELTA)
    assert isinstance(after, PromisedThreshold)
    assert after.threshold >= before.threshold


@given(scores=samples, rates=st.tuples(rates, rates).map(sorted))
def test_law_a_higher_recall_never_has_a_higher_threshold(scores: list[float], rates: list[float]) -> None:
    lax, strict = (threshold_for_recall(scores_of(scores), rate, DELTA) for rate in rates)
    if isinstance(strict, PromisedThreshold):
        assert isinstance(lax, PromisedThreshold)
        assert strict.threshold <= lax.threshold


@given(scores=samples, recall=rates)
def test_law_a_promise_holds_on_the_labels_it_was_made_by(scores: list[float], recall: float) -> None:
    found = threshold_for_recall(scores_of(scores), recall, DELTA)
    if isinstance(found, PromisedThreshold):
        caught = sum(score >= found.threshold for score in scores)
        assert float(lower_bound(caught, len(scores), DELTA)) >= found.bound >= recall
    else:
        caught = sum(score >= 0 for score in scores)
        assert found.possible == pytest.approx(float(lower_bound(caught, len(scores), DELTA)))
        assert found.possible < recall


@given(scores=samples, share=st.sampled_from([0.05, 0.2, 0.5]))
def test_law_a_budget_holds_on_its_scores_and_leaves_no_lower_threshold(
    scores: list[float], share: float
) -> None:
    found = threshold_for_budget(scores_of(scores), share, DELTA)
    if isinstance(found, Shortfall):
        return
    flagged = sum(score >= found.threshold for score in scores)
    assert float(upper_bound(flagged, len(scores), DELTA)) <= share
    if found.threshold > 0:
        below = sum(score >= round(found.threshold - 1e-6, 6) for score in scores)
        assert float(upper_bound(below, len(scores), DELTA)) > share


def test_a_million_scores_are_no_trouble() -> None:
    rng = np.random.default_rng(7)
    found = threshold_for_budget(draw(rng, -1.0, LARGE), 0.005, DELTA)
    assert isinstance(found, PromisedThreshold)
    assert share_over(found.threshold, -1.0) == pytest.approx(0.005, rel=0.1)
