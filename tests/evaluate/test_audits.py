"""Labels that were drawn with known chances: the rates are those of all inputs, and their intervals cover."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import pytest
from scipy.stats import binomtest

from clipmod_cli.evaluate.intervals import Estimate
from clipmod_cli.evaluate.measures.comparing import compare
from clipmod_cli.evaluate.measures.metrics import quality, share
from clipmod_cli.evaluate.samples import Answers
from tests.evaluate.kit import labelled

POPULATION: Final = 20_000
AUDITED: Final = 0.02
"""Chance of an input that was not flagged; those flagged are all in the queue."""
TRIALS: Final = 300
RATES: Final = ("recall", "precision", "false_alarm_rate", "load", "accuracy")


def population(seed: int) -> Answers:
    """Return a stream of which 2 % is positive; 90 % of that, and 1 % of the rest, is flagged."""
    rng = np.random.default_rng(seed)
    positive = rng.random(POPULATION) < 0.02
    flagged = rng.random(POPULATION) < np.where(positive, 0.9, 0.01)
    return Answers(
        rows=np.arange(POPULATION),
        positive=positive,
        flagged=flagged,
        review=np.zeros(POPULATION, bool),
        failed=np.zeros(POPULATION, bool),
        score=np.where(flagged, 0.9, 0.1),
        weight=None,
    )


def audit(every: Answers, rng: np.random.Generator) -> Answers:
    """Return what a queue of flagged inputs and a random audit of the others label."""
    chance = np.where(every.flagged, 1.0, AUDITED)
    drawn = rng.random(POPULATION) < chance
    return dataclasses.replace(every.among(drawn), weight=1 / chance[drawn])


def rates(answers: Answers) -> dict[str, Estimate]:
    """Return the rates alone: areas need a bootstrap each."""
    return {
        "recall": share(answers, answers.flagged, answers.positive),
        "false_alarm_rate": share(answers, answers.flagged, ~answers.positive),
        "load": share(answers, answers.flagged | answers.review),
    }


def test_rates_are_the_plain_formulas_of_horvitz_and_thompson() -> None:
    drawn = audit(population(1), np.random.default_rng(1))
    found, weight = quality(drawn), drawn.weight
    assert weight is not None
    hit = drawn.flagged & drawn.positive
    right = drawn.flagged == drawn.positive
    expected = {
        "recall": weight[hit].sum() / weight[drawn.positive].sum(),
        "precision": weight[hit].sum() / weight[drawn.flagged].sum(),
        "false_alarm_rate": weight[drawn.flagged & ~drawn.positive].sum() / weight[~drawn.positive].sum(),
        "load": weight[drawn.flagged].sum() / weight.sum(),
        "accuracy": weight[right].sum() / weight.sum(),
    }
    for name in RATES:
        assert getattr(found, name).value == pytest.approx(expected[name])
    recall, precision = expected["recall"], expected["precision"]
    assert found.f1.value == pytest.approx(2 * recall * precision / (recall + precision))


def test_unweighted_rates_of_a_biased_queue_are_off_and_weighted_ones_cover() -> None:
    every = population(2)
    truth = {name: one.value for name, one in rates(every).items()}
    rng = np.random.default_rng(3)
    covered, weighted, plain = ({name: list[float]() for name in truth} for _ in range(3))
    over = 0
    for _ in range(TRIALS):
        drawn = audit(every, rng)
        unweighted = rates(dataclasses.replace(drawn, weight=None))
        for name, one in rates(drawn).items():
            assert one.low is not None
            assert one.high is not None
            value, real = one.value or 0.0, truth[name] or 0.0
            covered[name].append(one.low <= real <= one.high)
            weighted[name].append(value)
            plain[name].append(unweighted[name].value or 0.0)
            over += name == "recall" and real < one.low
    for name, values in covered.items():
        assert np.mean(values) >= 0.95 - 3 * (0.05 * 0.95 / TRIALS) ** 0.5
        assert np.mean(weighted[name]) == pytest.approx(truth[name], abs=0.02)
        assert abs(np.mean(plain[name]) - (truth[name] or 0.0)) > 0.08
    assert over / TRIALS <= 0.025 + 3 * (0.025 * 0.975 / TRIALS) ** 0.5, "recall is not told as too high"


def test_an_audit_without_a_miss_does_not_promise_recall() -> None:
    """With a tenth of the positives missed, one audit in many draws none of them and would say 100 %."""
    every = population(2)
    rng = np.random.default_rng(5)
    missed = every.positive & ~every.flagged
    drawn = audit(every, rng)
    lucky = dataclasses.replace(drawn, positive=drawn.positive & drawn.flagged)
    assert lucky.positive.sum() > 300
    found = share(lucky, lucky.flagged, lucky.positive)
    real = every.flagged[every.positive].mean()
    assert missed.sum() > 30
    assert found.value == 1.0
    assert found.low is not None
    assert found.low < real


def test_comparisons_count_labels_by_what_they_stand_for() -> None:
    truth = [True] * 30
    ours = labelled(truth, [0.9] * 20 + [0.1] * 10, weights=[1.0] * 20 + [50.0] * 10)
    other = labelled(truth, [0.1] * 20 + [0.9] * 10, weights=[1.0] * 20 + [50.0] * 10)
    theirs = other.with_pairs(
        [
            dataclasses.replace(pair, label=mine.label)
            for pair, mine in zip(other.pairs, ours.pairs, strict=True)
        ]
    )
    found = compare(ours, theirs, "other").caught
    assert (found.ours, found.theirs) == (20, 10)
    trials = int(520**2 / (20 + 10 * 2_500))
    assert found.p == pytest.approx(binomtest(round(trials * 20 / 520), trials).pvalue)
    plain = compare(
        dataclasses.replace(ours, weighted=False), dataclasses.replace(theirs, weighted=False), "other"
    )
    assert plain.caught.p == pytest.approx(binomtest(20, 30).pvalue)
