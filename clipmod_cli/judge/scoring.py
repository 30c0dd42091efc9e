"""An ensemble's scores from those of its members, for many views at once. Formulas: docs/policies.md.

Arithmetic on arrays only: a scan scores one view at a time, stored evidence a whole part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy.values import DIGITS
from clipmod_cli.judge.readers import HALF, Probabilities

TIE: Final = 1e-9
"""Sums of the same numbers in another order differ by less than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleScores:
    """The scores of `n` views by `m` members together; not finite where a member's score is not.

    Attributes:
        shares: `(m + 1, n, categories)`, those of each member and last the ensemble's; not rounded.
        tops: `(m + 1, n)`, the index of the highest share; of equal ones the first by precedence.
        unsafe: `(n,)`.
        own: `(n, categories)`, what thresholds of single categories are compared with.
        agreement: `(n,)`, the share of the weight of the members that agree.
        matched: `(n, thresholds of categories)`, whether a category is at its own threshold.
    """

    shares: Probabilities
    tops: NDArray[np.intp]
    unsafe: Probabilities
    own: Probabilities
    agreement: Probabilities
    matched: NDArray[np.bool_]


def combine(
    shares: Probabilities, weights: Probabilities, criteria: Criteria, *, own: Probabilities | None = None
) -> EnsembleScores:
    """Return the scores of members together; those that are compared are rounded to `DIGITS`.

    Args:
        shares: `(m, n, categories)`.
        weights: `(m,)` of these members.
        criteria: how they are judged.
        own: for thresholds of single categories, `(m, n, categories)`; None where these are the shares.
    """
    weight = weights.sum()
    summed = _weighted(weights, shares)
    # weights such as thirds sum to 1 only nearly
    whole = weight if criteria.policy.is_independent else summed.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        everyone = np.concatenate([shares, (summed / whole)[np.newaxis]])
        own = _rounded(everyone[-1] if own is None else _weighted(weights, own) / whole)
        unsafe = _rounded(_unsafe(everyone[-1], criteria))
        tops = _tops(everyone, criteria)
        opinions = tops if not criteria.agree_by_side else _lead_of_unsafe(everyone, criteria) >= 0.0
        agreement = _rounded(_weighted(weights, opinions[:-1] == opinions[-1]) / weight)
    thresholds = criteria.category_thresholds
    matched = own[:, [one.index for one in thresholds]] >= [one.threshold for one in thresholds]
    return EnsembleScores(
        shares=everyone, tops=tops, unsafe=unsafe, own=own, agreement=agreement, matched=matched
    )


def ties(scores: EnsembleScores, criteria: Criteria) -> NDArray[np.bool_]:
    """Return `(n,)`, whether the last digit could change the category, or whether a member agrees."""
    if criteria.agree_by_side:
        near = np.abs(_lead_of_unsafe(scores.shares, criteria)) <= TIE
        return np.asarray(near.any(axis=0) | _is_level(scores.shares[-1]))
    return np.asarray(_is_level(scores.shares).any(axis=0))


def _weighted(weights: Probabilities, values: NDArray[Any]) -> Probabilities:
    """Return the weighted sum of `(m, ...)` over the members.

    Not a product of matrices: of that, the last bits depend on how many views there are.
    """
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = total + weight * value
    return np.asarray(total)


def _rounded(values: Probabilities) -> Probabilities:
    return np.minimum(values.round(DIGITS), 1.0)


def _unsafe(shares: Probabilities, criteria: Criteria) -> Probabilities:
    """Return the unsafe score `(n,)`, 0..1: with softmax scoring exactly 1 where the SAFE ones have none."""
    mask = criteria.unsafe
    if criteria.policy.is_independent:
        return np.asarray(shares[:, mask].max(axis=1, initial=0.0))
    unsafe, safe = shares[:, mask].sum(axis=1), shares[:, ~mask].sum(axis=1)
    return np.asarray(unsafe / (unsafe + safe))


def _tops(shares: Probabilities, criteria: Criteria) -> NDArray[np.intp]:
    order = np.asarray(criteria.precedence)
    return np.asarray(order[shares[..., order].argmax(axis=-1)])


def _lead_of_unsafe(shares: Probabilities, criteria: Criteria) -> NDArray[Any]:
    """Return by how much the side of a row of shares is UNSAFE; under 0 it is SAFE."""
    unsafe = shares[..., criteria.unsafe]
    if criteria.policy.is_independent:
        return np.asarray(unsafe.max(axis=-1, initial=0.0) - HALF)
    return np.asarray(unsafe.sum(axis=-1) - shares[..., ~criteria.unsafe].sum(axis=-1))


def _is_level(shares: Probabilities) -> NDArray[np.bool_]:
    """Return whether the two highest of a row are equal."""
    if shares.shape[-1] < 2:
        return np.zeros(shares.shape[:-1], np.bool_)
    highest = np.partition(shares, -2, axis=-1)
    return np.asarray(highest[..., -1] - highest[..., -2] <= TIE)
