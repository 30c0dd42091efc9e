"""Comparisons: McNemar's test is scipy's, differences are paired, and flips are told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binom

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.matching import LabelledInput
from clipmod_cli.evaluate.measures.comparing import compare
from clipmod_cli.evaluate.samples import LabelledSet
from tests.evaluate.kit import THRESHOLD, judged, labelled


def two(
    truth: Sequence[bool], ours: Sequence[float | None], theirs: Sequence[float | None]
) -> tuple[LabelledSet, LabelledSet]:
    """Return two sets of records with the same labels."""
    one = labelled(truth, ours)
    pairs = [
        LabelledInput(judged(number, score), pair.label)
        for number, (pair, score) in enumerate(zip(one.pairs, theirs, strict=True))
    ]
    return one, one.with_pairs(pairs)


def test_mcnemar_counts_what_one_alone_got_right() -> None:
    truth = [True] * 20 + [False] * 20
    ours = [*[0.9] * 20, 0.7, *[0.1] * 19]
    theirs = [*[0.9] * 8, *[0.2] * 11, None, *[0.1] * 20]
    found = compare(*two(truth, ours, theirs), "old.jsonl")
    assert (found.caught.ours, found.caught.theirs) == (12, 0)
    assert (found.spared.ours, found.spared.theirs) == (0, 1)
    assert (found.accuracy.ours, found.accuracy.theirs) == (12, 1)
    assert found.caught.p == pytest.approx(2 * 0.5**12)
    assert found.accuracy.p == pytest.approx(2 * binom.cdf(1, 13, 0.5))
    assert found.spared.p == 1
    assert found.differences["recall"].value == pytest.approx(12 / 20)
    assert found.differences["false_alarm_rate"].value == pytest.approx(1 / 20)
    low, high = found.differences["recall"].low, found.differences["recall"].high
    assert low is not None
    assert high is not None
    assert 0.3 < low < 0.6 < high < 0.9


def test_flips_come_with_the_wrong_ones_first() -> None:
    found = compare(*two([True, False, True], [0.9, 0.9, 0.1], [0.1, 0.1, None]), "old.jsonl")
    assert [(one.before, one.after, one.label, one.name) for one in found.flips] == [
        ("error", "Safe", "NSFW", "p/2.jpg"),
        ("Safe", "NSFW", "Safe", "p/1.jpg"),
        ("Safe", "NSFW", "NSFW", "p/0.jpg"),
    ]


def test_equal_records_do_not_differ() -> None:
    truth, scores = [True, True, False, False], [0.9, 0.3, 0.6, 0.1]
    found = compare(*two(truth, [*scores], [*scores]), "old.jsonl")
    assert found.flips == []
    assert found.accuracy.p == 1
    assert {(one.value, one.low, one.high) for one in found.differences.values()} == {(0, 0, 0)}


def test_only_inputs_in_both_are_compared() -> None:
    ours, theirs = two([True, False, True], [0.9, 0.1, 0.9], [0.9, 0.1, 0.1])
    found = compare(ours, theirs.with_pairs(theirs.pairs[1:]), "old.jsonl")
    assert (found.n, found.caught.ours) == (2, 1)
    with pytest.raises(UsageError, match=r"old\.jsonl has no labelled input in common"):
        compare(ours, theirs.with_pairs([]), "old.jsonl")


def test_pairing_makes_small_differences_certain() -> None:
    """Two models with equal noise on the same inputs: unpaired intervals would hide what pairing shows."""
    rng = np.random.default_rng(1)
    truth = np.arange(400) < 200
    difficulty = rng.normal(0, 0.15, 400)
    base = np.clip(np.where(truth, 0.55, 0.3) + difficulty, 0, 1)
    better = np.clip(base + np.where(truth, 0.04, 0.0), 0, 1)
    found = compare(*two(truth.tolist(), better.tolist(), base.tolist()), "old.jsonl").differences["recall"]
    gained = ((better >= THRESHOLD) & (base < THRESHOLD))[truth].mean()
    assert found.value == pytest.approx(gained)
    assert found.low is not None
    assert found.low > 0
