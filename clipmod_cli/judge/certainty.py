"""Whether an outcome is certain before every member of an ensemble was asked. Arithmetic on arrays only.

What a member that was not asked would say is a distribution over the categories: numbers in 0..1 that
sum to 1. So it can add anything between nothing and its whole weight to the share of the UNSAFE
categories, make any category the ensemble's whose lead is smaller than that, and agree or not. An outcome
is certain where no such distribution changes the decision or whether a person has to look.

All bounds are safe: `False` may mean that it could not be shown. What the asked members say alone, their
weights scaled to sum to 1, lies between the same bounds, so judging by it gives the same outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.float64]
Answers: TypeAlias = NDArray[np.bool_]

MARGIN: Final = 1e-9
"""Nothing is certain that hangs on less: sums of a few numbers in 0..1 are rounded by some 1e-15, and no
policy means a billionth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRule:
    """What turns scores into an outcome.

    Attributes:
        unsafe: by category, whether it is UNSAFE.
        threshold: an unsafe score from here on is NSFW.
        agreement: less agreement than this needs review.
        band: an unsafe score from the first to the second needs review.
    """

    unsafe: Answers
    threshold: float
    agreement: float
    band: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialScores:
    """What the members that were asked say of `n` frames, and what is left.

    Attributes:
        shares: by member, `(n, categories)`, each row summing to 1.
        weights: of the same members.
        left: the weight of all others together.
    """

    shares: Sequence[Numbers]
    weights: Sequence[float]
    left: float

    @property
    def total(self) -> float:
        """The weight of all members."""
        return sum(self.weights) + self.left

    @property
    def summed(self) -> Numbers:
        """The weighted sum `(n, categories)` over the members that were asked."""
        weighted = [w * one for w, one in zip(self.weights, self.shares, strict=True)]
        return np.asarray(np.sum(weighted, axis=0))


def score_bounds(heard: PartialScores, unsafe: Answers) -> tuple[Numbers, Numbers]:
    """Return the lowest and the highest unsafe score `(n,)` that the whole ensemble can come to, 0..1."""
    said = heard.summed[:, unsafe].sum(axis=1)
    low = said + (heard.left if unsafe.all() else 0.0)
    high = said + (heard.left if unsafe.any() else 0.0)
    return np.clip(low / heard.total, 0.0, 1.0), np.clip(high / heard.total, 0.0, 1.0)


def is_certain(heard: PartialScores, stakes: DecisionRule, *, review: Answers) -> Answers:
    """Return, for each frame, whether nobody who was not asked can change the outcome any more.

    Args:
        heard: what was said so far; a row that is not finite is never certain.
        stakes: what turns scores into an outcome.
        review: `(n,)`, where a person has to look whatever the scores are.
    """
    finite = np.all([np.isfinite(one).all(axis=1) for one in heard.shares], axis=0)
    with np.errstate(invalid="ignore"):  # what is not finite is left out at the end
        low, high = score_bounds(heard, stakes.unsafe)
        decided = ~_is_possible(low, high, stakes.threshold) if stakes.unsafe.any() else np.True_
        inside, outside = _in_band(low, high, stakes.band)
        disagree, agree = _in_agreement(heard, stakes.agreement)
    looked_at = review | inside | disagree
    left_alone = ~review & outside & agree
    return np.asarray(finite & decided & (looked_at | left_alone) & (sum(heard.weights) > MARGIN))


def _is_possible(low: Numbers, high: Numbers, edge: float) -> Answers:
    """Return whether a number from `low` to `high` can be under `edge` and can also be at or over it."""
    return np.asarray((low < edge + MARGIN) & (high >= edge - MARGIN))


def _in_band(low: Numbers, high: Numbers, band: tuple[float, float] | None) -> tuple[Answers, Answers]:
    """Return whether the score is certainly inside the band, and certainly outside."""
    if band is None:
        nowhere = np.zeros(len(low), dtype=np.bool_)
        return nowhere, ~nowhere
    inside = (low >= band[0] + MARGIN) & (high <= band[1] - MARGIN)
    outside = (high < band[0] - MARGIN) | (low > band[1] + MARGIN)
    return inside, outside


def _in_agreement(heard: PartialScores, needed: float) -> tuple[Answers, Answers]:
    """Return whether agreement is certainly less than `needed`, and certainly not less."""
    summed = heard.summed
    reachable = summed + heard.left + MARGIN >= summed.max(axis=1, keepdims=True)
    with_it = np.zeros_like(summed)  # the weight of those asked whose own top category is this one
    clear = np.ones(len(summed), dtype=np.bool_)
    for weight, one in zip(heard.weights, heard.shares, strict=True):
        with_it += weight * (one == one.max(axis=1, keepdims=True))
        clear &= _is_clear(one)
    least = np.where(reachable, with_it, np.inf).min(axis=1) / heard.total
    most = (np.where(reachable, with_it, -np.inf).max(axis=1) + heard.left) / heard.total
    enough = (least >= needed + MARGIN) | (needed <= 0.0)
    return clear & (most < needed - MARGIN), clear & enough


def _is_clear(shares: Numbers) -> Answers:
    """Return whether each row has one highest category, by more than rounding."""
    if shares.shape[1] < 2:
        return np.ones(len(shares), dtype=np.bool_)
    second, first = np.partition(shares, -2, axis=1)[:, -2:].T
    return np.asarray(first - second > MARGIN)
