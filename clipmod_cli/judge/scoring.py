"""An ensemble's scores from those of its members, for many views at once. Formulas: docs/policies.md.

Arithmetic on arrays only: a scan scores one view at a time, stored evidence a whole part.
"""

from __future__ import annotations

from collections.abc import Sequence
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
class MemberScores:
    """The scores of one member, `(n, categories)` each; `own` is what thresholds of categories are for."""

    weight: float
    shares: Probabilities
    own: Probabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleScores:
    """The scores of `n` views by all members together; rows with a member's score that is not finite are not.

    Attributes:
        shares: `(n, categories)`, not rounded.
        own: `(n, categories)`, what thresholds of single categories are compared with.
        unsafe: `(n,)`.
        top: `(n,)`, the index of the highest share; of equal ones the first by precedence.
        agreement: `(n,)`, the share of the weight of the members that agree.
        matched: `(n, thresholds of categories)`, whether a category is at its own threshold.
        is_tie: `(n,)`, whether rounding in the last digit could change `top` or whether a member agrees.
    """

    shares: Probabilities
    own: Probabilities
    unsafe: Probabilities
    top: NDArray[np.intp]
    agreement: Probabilities
    matched: NDArray[np.bool_]
    is_tie: NDArray[np.bool_]


def combine(members: Sequence[MemberScores], criteria: Criteria) -> EnsembleScores:
    """Return the scores of these members together; scores that are compared are rounded to `DIGITS`."""
    summed = np.sum([one.weight * one.shares for one in members], axis=0)
    own = np.sum([one.weight * one.own for one in members], axis=0)
    weight = sum(one.weight for one in members)
    with np.errstate(invalid="ignore", divide="ignore"):
        # weights such as thirds sum to 1 only nearly
        whole = weight if criteria.policy.is_independent else summed.sum(axis=1, keepdims=True)
        shares, own = summed / whole, np.minimum(np.round(own / whole, DIGITS), 1.0)
        unsafe = np.round(_unsafe(shares, criteria), DIGITS)
        opinion, is_tie = _opinions(shares, criteria)
        agreeing = np.zeros(len(shares))
        for one in members:
            theirs, is_theirs_tie = _opinions(one.shares, criteria)
            agreeing += one.weight * (theirs == opinion)
            is_tie |= is_theirs_tie
    thresholds = criteria.category_thresholds
    return EnsembleScores(
        shares=shares,
        own=own,
        unsafe=unsafe,
        top=tops(shares, criteria),
        agreement=np.minimum(np.round(agreeing / weight, DIGITS), 1.0),
        matched=own[:, [one.index for one in thresholds]] >= [one.threshold for one in thresholds],
        is_tie=is_tie | _is_tie(shares),
    )


def tops(shares: Probabilities, criteria: Criteria) -> NDArray[np.intp]:
    """Return the index of the highest share of each row; of equal ones the first by precedence."""
    order = np.asarray(criteria.precedence)
    return np.asarray(order[np.argmax(shares[:, order], axis=1)])


def _unsafe(shares: Probabilities, criteria: Criteria) -> Probabilities:
    """Return the unsafe score `(n,)`, 0..1: with softmax scoring exactly 1 where the SAFE ones have none."""
    mask = criteria.unsafe
    if criteria.policy.is_independent:
        return np.asarray(np.minimum(shares[:, mask].max(axis=1, initial=0.0), 1.0))
    unsafe, safe = shares[:, mask].sum(axis=1), shares[:, ~mask].sum(axis=1)
    return np.asarray(unsafe / (unsafe + safe))


def _opinions(shares: Probabilities, criteria: Criteria) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return what members may agree on, and where it is a tie.

    It is the top category, or where they agree by side whether it is UNSAFE.
    """
    if not criteria.agree_by_side:
        return tops(shares, criteria), _is_tie(shares)
    unsafe = criteria.unsafe
    if criteria.policy.is_independent:
        for_unsafe, least = shares[:, unsafe].max(axis=1, initial=0.0), np.full(len(shares), HALF)
    else:
        for_unsafe, least = shares[:, unsafe].sum(axis=1), shares[:, ~unsafe].sum(axis=1)
    return for_unsafe >= least, np.abs(for_unsafe - least) <= TIE


def _is_tie(shares: Probabilities) -> NDArray[np.bool_]:
    if shares.shape[1] < 2:
        return np.zeros(len(shares), np.bool_)
    second, first = np.partition(shares, -2, axis=1)[:, -2:].T
    return np.asarray(first - second <= TIE)
