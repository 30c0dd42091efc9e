"""Intervals: equal to those of scipy and scikit-learn, and covering what they should."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from clipmod_cli.evaluate.intervals import (
    Flags,
    Floats,
    LabelWeights,
    Ranking,
    areas,
    auroc,
    average_precision,
    interval_of,
    rate,
    rates_posterior,
    resamples,
    wilson,
)

TRIALS = 1_500
# 95 % cover if at least 95 % less three standard errors of the simulation do
ENOUGH = 0.95 - 3 * np.sqrt(0.95 * 0.05 / TRIALS)


def scores(
    rng: np.random.Generator, positives: int, negatives: int, *, digits: int = 6
) -> tuple[Flags, Floats]:
    positive = np.repeat([True, False], [positives, negatives])
    score = rng.beta(np.where(positive, 3.0, 1.0), np.where(positive, 1.5, 3.0))
    return positive, np.round(score, digits)


@given(st.integers(1, 3000), st.data())
def test_wilson_is_that_of_scipy(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    found = rate(np.arange(n) < hits)
    assert (found.value, found.hits, found.n) == (hits / n, hits, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_rate_of_nothing_has_no_value() -> None:
    assert rate(np.zeros(0, bool)).value is None


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_intervals_of_rates_cover(share: float) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(TRIALS):
        found = rate(rng.random(150) < share)
        covered += found.low <= share <= found.high  # type: ignore[operator]
    assert covered / TRIALS >= ENOUGH - 0.01  # Wilson's holds 95 % on average over shares, not at each


def test_equal_weights_change_nothing() -> None:
    hits = np.array([True, False, True, True, False])
    plain, weighted = rate(hits), rate(hits, LabelWeights(each=np.full(5, 40.0)))
    assert weighted.value == plain.value
    assert (weighted.low, weighted.high) == pytest.approx((plain.low, plain.high))
    assert weighted.trials == pytest.approx(5)
    for every in (np.ones(7, bool), np.zeros(7, bool)):
        plain, weighted = rate(every), rate(every, LabelWeights(each=np.full(7, 3.0)))
        assert (weighted.low, weighted.high) == pytest.approx((plain.low, plain.high))
        assert weighted.trials == pytest.approx(7)


def test_weighted_rates_are_horvitz_thompson_and_cover() -> None:
    """An audit draws what is rare more often; its weights give the population's rate."""
    rng = np.random.default_rng(2)
    size = 20_000
    rare = rng.random(size) < 0.05
    hit = rng.random(size) < np.where(rare, 0.8, 0.1)
    chance = np.where(rare, 0.5, 0.03)
    covered, values, plain = 0, [], []
    for _ in range(TRIALS):
        drawn = rng.random(size) < chance
        found = rate(hit[drawn], LabelWeights(each=1 / chance[drawn]))
        values.append(found.value or 0.0)
        plain.append(rate(hit[drawn]).value or 0.0)
        covered += found.low <= hit.mean() <= found.high
    assert np.mean(values) == pytest.approx(hit.mean(), abs=0.002)
    assert abs(np.mean(plain) - hit.mean()) > 0.1
    assert covered / TRIALS >= ENOUGH - 0.01


def test_the_weight_of_one_input_is_no_certainty() -> None:
    """One input that stands for nearly all others bounds a rate as badly as a single trial does."""
    found = rate(np.ones(50, bool), LabelWeights(each=np.append(np.ones(49), 1e6)))
    assert found.low is not None
    assert found.low < 0.25


def test_the_interval_is_where_the_score_test_says_so() -> None:
    """At both limits the weighted share is as many standard errors away as the confidence has."""
    hits = np.array([True] * 40 + [False] * 30)
    each = np.concatenate([np.full(40, 1.0), np.full(10, 1.0), np.full(20, 25.0)])
    found = rate(hits, LabelWeights(each=each, hit=1.0, miss=25.0))
    total, share = 550.0, 40 / 550
    assert found.value == pytest.approx(share)
    heavy = (10 + 20 * 25**2 + 25**2) / (510 + 25)
    for limit in (found.low, found.high):
        assert limit is not None
        most_likely = (40 + 510 / heavy) / (limit + (1 - limit) / heavy)
        caught, missed = limit * most_likely, (1 - limit) * most_likely
        # each hit is one, each miss `heavy` inputs
        variance = (1 - limit) ** 2 * caught + limit**2 * heavy * missed
        assert (total * (share - limit)) ** 2 / variance == pytest.approx(1.959964**2, rel=1e-4)


weighted_hits = st.lists(
    st.tuples(st.booleans(), st.sampled_from([1e-3, 1.0, 3.0, 50.0, 1e6])), min_size=1, max_size=30
)


@given(weighted_hits, st.sampled_from([None, 1.0, 1e4]), st.sampled_from([None, 1.0, 1e4]))
def test_a_weighted_interval_holds_its_share_whatever_the_weights(
    drawn: list[tuple[bool, float]], hit: float | None, miss: float | None
) -> None:
    hits, each = np.array([one for one, _ in drawn]), np.array([weight for _, weight in drawn])
    found = rate(hits, LabelWeights(each=each, hit=hit, miss=miss))
    assert found.low is not None
    assert found.high is not None
    assert found.trials is not None
    assert 0 <= found.low <= found.value <= found.high <= 1  # type: ignore[operator]
    assert found.low < found.high
    assert found.trials > 0
    mirrored = rate(~hits, LabelWeights(each=each, hit=miss, miss=hit))
    assert mirrored.low == pytest.approx(1 - found.high, abs=1e-6)
    heavier = rate(hits, LabelWeights(each=each, hit=hit, miss=1e7))
    assert heavier.low is not None
    assert heavier.low <= found.low + 1e-9


def test_no_miss_among_few_heavy_labels_is_no_proof_of_none() -> None:
    """All 500 flagged positives are labelled; of the others one in a hundred, none of them a positive."""
    found = rate(np.ones(500, bool), LabelWeights(each=np.ones(500), hit=1.0, miss=100.0))
    assert found.value == 1.0
    assert found.low == pytest.approx(500 / (500 + 1.96**2 * 100), abs=0.01)
    assert found.trials is not None
    assert wilson(1.0, found.trials)[0] == pytest.approx(found.low)


@pytest.mark.parametrize("digits", [6, 1])
@pytest.mark.parametrize("weighted", [False, True])
def test_areas_are_those_of_scikit_learn(digits: int, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    positive, score = scores(rng, 80, 240, digits=digits)
    weight = rng.uniform(0.5, 30, 320) if weighted else None
    ranking, precision = areas(positive, score, weight)
    assert ranking.value == pytest.approx(roc_auc_score(positive, score, sample_weight=weight))
    assert precision.value == pytest.approx(average_precision_score(positive, score, sample_weight=weight))


def test_areas_of_resamples_are_those_of_scikit_learn() -> None:
    positive, score = scores(np.random.default_rng(4), 30, 50, digits=1)
    ranking = Ranking.of(positive, score)
    for times in itertools.islice(resamples(positive), 20):
        again = np.repeat(np.arange(80), times.astype(int))
        assert positive[again].sum() == 30
        hits = ranking.hits(times)
        assert auroc(*hits) == pytest.approx(roc_auc_score(positive[again], score[again]))
        assert average_precision(*hits) == pytest.approx(
            average_precision_score(positive[again], score[again])
        )


def test_intervals_of_areas_cover() -> None:
    rng = np.random.default_rng(5)
    positive, score = scores(np.random.default_rng(6), 100_000, 300_000)
    hits = Ranking.of(positive, score).hits(np.ones(400_000))
    truth = auroc(*hits), average_precision(*hits)
    covered, trials = [0, 0], 120
    for _ in range(trials):
        for place, found in enumerate(areas(*scores(rng, 60, 180))):
            covered[place] += (found.low or 1.0) <= truth[place] <= (found.high or 0.0)
    for count in covered:
        assert count / trials >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials) - 0.01


def test_areas_of_one_kind_have_no_value() -> None:
    assert [one.value for one in areas(np.ones(5, bool), np.arange(5.0))] == [None, None]


def test_a_perfect_ranking_is_not_certain() -> None:
    positive = np.arange(40) < 10
    ranking, precision = areas(positive, np.where(positive, 1.0, 0.0))
    assert (ranking.value, ranking.high) == (1.0, 1.0)
    assert ranking.low == pytest.approx(binomtest(10, 10).proportion_ci(method="wilson").low)
    assert (precision.value, precision.low) == (1.0, None)


def test_the_same_labels_give_the_same_intervals() -> None:
    positive, score = scores(np.random.default_rng(7), 20, 40)
    assert areas(positive, score) == areas(positive, score)


def test_many_labels_are_resampled_less_often() -> None:
    assert len(list(resamples(np.arange(100) < 50))) == 1000
    assert len(list(resamples(np.arange(100_000) < 50))) == 200


@pytest.mark.parametrize(("recall", "alarms"), [(0.9, 0.05), (0.7, 0.004)])
def test_intervals_of_precision_cover(recall: float, alarms: float) -> None:
    rng = np.random.default_rng(8)
    prevalence = 0.005

    def precision(caught: Any, wrong: Any) -> Any:
        return prevalence * caught / (prevalence * caught + (1 - prevalence) * wrong)

    covered, trials = 0, 400
    for _ in range(trials):
        caught, wrong = rates_posterior(rate(rng.random(120) < recall), rate(rng.random(600) < alarms))
        low, high = interval_of(precision(caught, wrong))
        covered += low <= precision(recall, alarms) <= high
    assert covered / trials >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials) - 0.01
