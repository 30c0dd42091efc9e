"""Early exit: whether an outcome is certain before every model of an ensemble was run. Arithmetic only.

A model that was not run can give any distribution over the categories: numbers in 0..1 that sum to 1, or
under independent scoring any numbers in 0..1. So it can add from nothing to its whole weight to the unsafe
score and to the score of each category, make any category or side the ensemble's whose lead is smaller than
that, and agree or not. An outcome is certain where no such numbers change the decision or the review.

All bounds are safe: `False` may mean that certainty could not be shown. The scores of the models that were
run, their weights scaled to sum to 1, lie between the same bounds, so judging by them gives the same outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.judge.readers import HALF

Floats: TypeAlias = NDArray[np.float64]
Booleans: TypeAlias = NDArray[np.bool_]
Band: TypeAlias = tuple[float, float] | None

MARGIN: Final = 1e-6
"""An outcome that depends on less is not certain: scores are rounded to six digits, then compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialScores:
    """The scores of the models that were run on `n` frames.

    Attributes:
        shares: by model, `(n, categories)`, 0..1; each row sums to 1 under softmax scoring.
        weights: of the same models.
        remaining: the weight of all other models together.
        own: by model, the scores that thresholds of categories are compared with; none: as the shares.
    """

    shares: Sequence[Floats]
    weights: Sequence[float]
    remaining: float
    own: Sequence[Floats] = ()

    @property
    def total(self) -> float:
        """The weight of all models."""
        return sum(self.weights) + self.remaining

    @property
    def summed(self) -> Floats:
        """The weighted sum `(n, categories)` over the models that were run."""
        weighted = [w * shares for w, shares in zip(self.weights, self.shares, strict=True)]
        return np.asarray(np.sum(weighted, axis=0))

    def by_side(self, unsafe: Booleans) -> PartialScores:
        """Return the same with two categories, the UNSAFE and the SAFE ones together."""
        sides = [
            np.stack([shares[:, unsafe].sum(axis=1), shares[:, ~unsafe].sum(axis=1)], axis=1)
            for shares in self.shares
        ]
        return replace(self, shares=sides)


def score_bounds(
    partial: PartialScores, unsafe: Booleans, *, independent: bool = False
) -> tuple[Floats, Floats]:
    """Return the lowest and the highest unsafe score `(n,)` that the whole ensemble can reach, 0..1."""
    if independent:
        known = low = partial.summed[:, unsafe].max(axis=1, initial=0.0)
    else:
        known = partial.summed[:, unsafe].sum(axis=1)
        low = known + (partial.remaining if unsafe.all() else 0.0)
    high = known + (partial.remaining if unsafe.any() else 0.0)
    return np.clip(low / partial.total, 0.0, 1.0), np.clip(high / partial.total, 0.0, 1.0)


def category_bounds(partial: PartialScores, index: int) -> tuple[Floats, Floats]:
    """Return the lowest and the highest own score `(n,)` of a category that the whole ensemble can reach."""
    own = partial.own or partial.shares
    known = np.sum([w * each[:, index] for w, each in zip(partial.weights, own, strict=True)], axis=0)
    high = (known + partial.remaining) / partial.total
    return np.clip(known / partial.total, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def certain_outcomes(
    partial: PartialScores,
    policy: Policy,
    *,
    unsafe: Booleans,
    threshold: float,
    review: Booleans,
    by_side: bool,
) -> tuple[Booleans, Booleans]:
    """Return which frames have a certain decision and certainly need review, and which certainly need none.

    In all others a model that was not run can change the outcome.

    Args:
        partial: the scores so far; a row that is not finite is never certain.
        policy: less agreement than its threshold, or a score near the threshold, needs review.
        unsafe: by category, whether it is UNSAFE.
        threshold: an unsafe score of at least this is NSFW.
        review: `(n,)`, whether a frame needs review whatever its scores are.
        by_side: models agree where their sides (SAFE or UNSAFE) are equal, not only their categories.
    """
    finite = np.all([np.isfinite(shares).all(axis=1) for shares in partial.shares], axis=0)
    with np.errstate(invalid="ignore"):  # rows that are not finite are excluded at the end
        together = score_bounds(partial, unsafe, independent=policy.is_independent)
        limits = [(*together, threshold, policy.review_band(threshold))] + [
            (*category_bounds(partial, one.index), one.threshold, one.band)
            for one in policy.category_thresholds
        ]
        decided = _is_decided(limits) if unsafe.any() else np.True_
        bands = [_in_band(low, high, band) for low, high, _, band in limits]
        inside = np.any([one for one, _ in bands], axis=0)
        outside = np.all([one for _, one in bands], axis=0)
        if policy.is_independent:
            opinions = _of_halves(partial, unsafe)
        else:
            opinions = _of_shares(partial.by_side(unsafe) if by_side else partial)
        disagree, agree = _in_agreement(partial, opinions, policy.agreement_threshold)
    needs_review = review | inside | disagree
    needs_none = ~review & outside & agree
    certain = finite & decided & (sum(partial.weights) > MARGIN)
    return np.asarray(certain & needs_review), np.asarray(certain & needs_none)


def _is_decided(limits: Sequence[tuple[Floats, Floats, float, Band]]) -> Booleans:
    """Return whether a score is certainly at its threshold, or all are certainly under theirs."""
    over = np.any([low >= edge + MARGIN for low, _, edge, _ in limits], axis=0)
    under = np.all([high < edge - MARGIN for _, high, edge, _ in limits], axis=0)
    return np.asarray(over | under)


def _in_band(low: Floats, high: Floats, band: Band) -> tuple[Booleans, Booleans]:
    """Return whether the score is certainly inside the review band, and certainly outside."""
    if band is None:
        nowhere = np.zeros(len(low), dtype=np.bool_)
        return nowhere, ~nowhere
    inside = (low >= band[0] + MARGIN) & (high <= band[1] - MARGIN)
    outside = (high < band[0] - MARGIN) | (low > band[1] + MARGIN)
    return inside, outside


@dataclass(frozen=True, slots=True)
class _Opinions:
    """What models may agree on.

    Attributes:
        reachable: `(n, opinions)`, whether the whole ensemble can be of this opinion.
        agreeing: `(n, opinions)`, the weight of the models that were run and are of it.
        clear: `(n,)`, whether none of these is so near to another opinion that rounding could decide.
    """

    reachable: Booleans
    agreeing: Floats
    clear: Booleans


def _of_shares(partial: PartialScores) -> _Opinions:
    """Return opinions that are categories: the one with the highest share."""
    summed = partial.summed
    agreeing = np.zeros_like(summed)
    clear = np.ones(len(summed), dtype=np.bool_)
    for weight, shares in zip(partial.weights, partial.shares, strict=True):
        agreeing += weight * (shares == shares.max(axis=1, keepdims=True))
        clear &= _has_clear_top(shares)
    reachable = summed + partial.remaining + MARGIN >= summed.max(axis=1, keepdims=True)
    return _Opinions(reachable, agreeing, clear)


def _of_halves(partial: PartialScores, unsafe: Booleans) -> _Opinions:
    """Return the opinions of independent scoring: UNSAFE where such a category has half, else SAFE."""
    low, high = score_bounds(partial, unsafe, independent=True)
    agreeing = np.zeros((len(low), 2))
    clear = np.ones(len(low), dtype=np.bool_)
    for weight, shares in zip(partial.weights, partial.shares, strict=True):
        highest = shares[:, unsafe].max(axis=1, initial=0.0)
        agreeing += weight * np.stack([highest >= HALF, highest < HALF], axis=1)
        clear &= np.abs(highest - HALF) > MARGIN
    return _Opinions(np.stack([high >= HALF - MARGIN, low <= HALF + MARGIN], axis=1), agreeing, clear)


def _in_agreement(partial: PartialScores, opinions: _Opinions, needed: float) -> tuple[Booleans, Booleans]:
    """Return whether agreement is certainly less than `needed`, and certainly not less."""
    least = np.where(opinions.reachable, opinions.agreeing, np.inf).min(axis=1) / partial.total
    most = np.where(opinions.reachable, opinions.agreeing, -np.inf).max(axis=1) + partial.remaining
    enough = (least >= needed + MARGIN) | (needed <= 0.0)
    return opinions.clear & (most / partial.total < needed - MARGIN), opinions.clear & enough


def _has_clear_top(shares: Floats) -> Booleans:
    """Return whether each row has one highest category, by more than rounding."""
    if shares.shape[1] < 2:
        return np.ones(len(shares), dtype=np.bool_)
    second, first = np.partition(shares, -2, axis=1)[:, -2:].T
    return np.asarray(first - second > MARGIN)
