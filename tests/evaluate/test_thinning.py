"""Labels that were drawn with different chances: a part of them keeps promises that all of them break."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.matching import LabelledInput
from clipmod_cli.evaluate.samples import JudgedInput, LabelledSet
from clipmod_cli.evaluate.tuning.bounds import PromisedThreshold, threshold_for_recall
from clipmod_cli.evaluate.tuning.thinning import check_drawn, thin
from tests.evaluate.kit import POLICY, judged, label, labelled

TRIALS: Final = 300
QUEUED, AUDITED, RECALL, DELTA = 0.5, 0.05, 0.9, 0.05
"""What scores as much is in the queue, and labelled; of the rest one in twenty is."""


def names(found: LabelledSet) -> list[str]:
    return [pair.judged.source for pair in found.pairs]


def spread(weights: list[float]) -> LabelledSet:
    """Return inputs of these weights; scores and labels do not matter."""
    return labelled(
        [number % 3 == 0 for number in range(len(weights))], [0.5] * len(weights), weights=weights
    )


def test_each_input_has_the_same_chance_to_be_drawn_and_kept() -> None:
    chances = [1.0, 0.5, 0.1, 0.05]
    count = 2_000
    every = spread([1 / chance for chance in chances for _ in range(count)])
    kept = thin(every)
    assert not kept.weighted
    for place, chance in enumerate(chances):
        share = sum(pair.weight == 1 / chance for pair in kept.pairs) / count
        wanted = 0.05 / chance
        assert abs(share - wanted) <= 4 * (wanted * (1 - wanted) / count) ** 0.5, (place, share)


def test_contents_alone_decide_what_is_kept() -> None:
    every = spread([1.0, 4.0] * 200)
    kept = names(thin(every))
    assert 200 < len(kept) < 400
    turned = every.with_pairs(
        [replace(one, label=label(number, positive=True)) for number, one in enumerate(every.pairs)][::-1]
    )
    assert names(thin(turned)) == kept[::-1]
    moved = [replace(pair, judged=replace(pair.judged, unsafe_score=0.9)) for pair in every.pairs]
    assert names(thin(every.with_pairs(moved))) == kept
    others = [replace(p, judged=replace(p.judged, sha256=f"{n:064b}")) for n, p in enumerate(every.pairs)]
    assert names(thin(every.with_pairs(others))) != kept


@pytest.mark.parametrize("weight", [0.3, 1.0, 20.0])
def test_labels_of_equal_weight_are_all_kept(weight: float) -> None:
    every = spread([weight] * 300)
    assert thin(every).pairs == every.pairs
    unweighted = replace(every, weighted=False)
    assert thin(unweighted) is unweighted


def reviewed(rng: np.random.Generator) -> LabelledSet:
    """Return positives that were labelled: all of the queue, and one in twenty of the others."""
    scores = rng.beta(2, 1, 1_200)
    chance = np.where(scores >= QUEUED, 1.0, AUDITED)
    drawn = np.flatnonzero(rng.random(len(scores)) < chance)
    numbers = rng.integers(0, 1 << 62, len(drawn))  # other contents in each trial
    pairs = [
        LabelledInput(
            replace(ANY, sha256=f"{number:064x}", unsafe_score=float(scores[at])), SAID, 1 / float(chance[at])
        )
        for number, at in zip(numbers.tolist(), drawn.tolist(), strict=True)
    ]
    return LabelledSet(pairs=pairs, policy=POLICY, threshold=0.5, weighted=True)


ANY: Final[JudgedInput] = judged(0, 0.5)
SAID: Final = label(0, positive=True)


def is_broken(found: LabelledSet) -> bool:
    """Return whether the threshold catches less in use than it promises: a beta(2, 1) is under x by x²."""
    threshold = threshold_for_recall(scores_of(found), RECALL, DELTA)
    return isinstance(threshold, PromisedThreshold) and 1 - threshold.threshold**2 < RECALL


def scores_of(found: LabelledSet) -> NDArray[np.float64]:
    return np.array([pair.judged.unsafe_score for pair in found.pairs], dtype=np.float64)


def test_a_promise_on_a_biased_queue_is_kept_once_it_is_thinned() -> None:
    rng = np.random.default_rng(11)
    plain = kept = promised = 0
    for _ in range(TRIALS):
        every = reviewed(rng)
        used = thin(every)
        plain += is_broken(every)
        kept += is_broken(used)
        promised += isinstance(threshold_for_recall(scores_of(used), RECALL, DELTA), PromisedThreshold)
    assert promised > 0.95 * TRIALS, "a promise that is never made is never broken"
    assert kept / TRIALS <= DELTA + 3 * (DELTA * (1 - DELTA) / TRIALS) ** 0.5
    assert plain / TRIALS > 0.9


def test_decisions_on_a_sorted_queue_alone_promise_nothing() -> None:
    every = labelled([True] * 60, [0.9] * 60)
    rows = [replace(pair.label.row, undrawn_unsure=3) for pair in every.pairs]
    queued = every.with_pairs(
        [replace(p, label=replace(p.label, row=row)) for p, row in zip(every.pairs, rows, strict=True)]
    )
    with pytest.raises(UsageError, match=r"no decision was drawn at random, and 1,197 records have none"):
        check_drawn(queued, 1_200)
    check_drawn(queued, 3)
    check_drawn(queued, 0)
    check_drawn(every, 1_200)
