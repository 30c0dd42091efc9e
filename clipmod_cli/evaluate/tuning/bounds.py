"""Thresholds that come with a promise: exact bounds of a rate, and tests of thresholds in a fixed order.

A threshold that meets a target on the labels misses it in use in more than half of all cases: it was picked
for the errors of this sample. Learn-then-Test (Angelopoulos et al., arXiv 2110.01052) and risk-controlling
prediction sets (Bates et al., arXiv 2101.02703) test thresholds one after the other in an order that does not
depend on the labels, from where the promise is easiest to keep, and stop at the first that fails. So the
threshold found breaks its promise in at most a share `delta` of all samples. The bounds of each test are
those of Clopper and Pearson (Biometrika 26, 1934), exact for every size of a sample.

Pictures are taken for independent of each other, and drawn as those in use are. Scores are floats 0..1 on
the grid of records (a millionth); -inf stands for an input that could not be judged, and is never flagged,
+inf for one that is flagged whatever the threshold. Arithmetic only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipmod_cli.install import require_extra
from clipmod_cli.judge.policy.values import DIGITS

Scores: TypeAlias = NDArray[np.float64]

STEP: Final = 10.0**-DIGITS
"""Between two scores that records tell apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromisedThreshold:
    """A threshold, 0..1, and the rate on which its promise rests.

    Attributes:
        bound: what the rate is at least (recall, precision) or at most (share of flagged inputs) with the
            confidence asked for.
    """

    threshold: float
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Why no threshold can be promised.

    Attributes:
        missing: how many more inputs are needed, if all further ones come out well; 0 if more of them need
            not help.
        possible: the rate that these inputs can promise.
        threshold: with which; None if with none.
    """

    missing: int
    possible: float
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledScores:
    """Scores of inputs that must be flagged, and of those that must not."""

    positives: Scores
    negatives: Scores


def lower_bound(hits: ArrayLike, trials: int, delta: float) -> Scores:
    """Return what a rate is at least, 0..1, with confidence 1 - `delta` (Clopper-Pearson, one-sided).

    Args:
        hits: of the trials, whole numbers or expected ones.
        trials: at least one.
        delta: the chance to be wrong, 0..1, ends excluded.
    """
    require_extra("eval", "a bound")
    from scipy.special import betaincinv  # the quantile of a beta distribution, without scipy.stats' checks

    counts = np.asarray(hits, dtype=np.float64)
    safe = np.maximum(counts, STEP)
    return np.asarray(np.where(counts <= 0, 0.0, betaincinv(safe, trials - counts + 1, delta)))


def upper_bound(hits: ArrayLike, trials: int, delta: float) -> Scores:
    """Return what a rate is at most, 0..1, with confidence 1 - `delta`; arguments as of `lower_bound`."""
    return 1.0 - lower_bound(trials - np.asarray(hits, dtype=np.float64), trials, delta)


def threshold_for_recall(positives: Scores, recall: float, delta: float) -> PromisedThreshold | Shortfall:
    """Return the highest threshold that flags a share `recall` of all positives, with confidence 1 - `delta`.

    The tests go from the lowest threshold up. Recall only falls on this way, and its count only changes at
    the positives' scores: the last threshold that passes is that of the positive after all those that may
    be missed. 59 positives are needed for a recall of 95 % at a delta of 0.05, and 299 for 99 %.

    Args:
        positives: scores of inputs that must be flagged, drawn as those in use are.
        recall: the share of them to flag, 0..1, ends excluded.
        delta: the chance that the promise is broken, 0..1, ends excluded.
    """
    rising = np.sort(positives)
    failed = int(np.isneginf(rising).sum())
    misses = _most_misses(len(rising), recall, delta)
    if misses < failed:
        needed = _least(lambda n: bool(lower_bound(n - failed, n, delta) >= recall), max(len(rising), 1))
        possible = float(lower_bound(len(rising) - failed, len(rising), delta)) if len(rising) else 0.0
        threshold = _clip(rising[failed]) if failed < len(rising) else None
        return Shortfall(missing=needed - len(rising), possible=possible, threshold=threshold)
    bound = float(lower_bound(len(rising) - misses, len(rising), delta))
    return PromisedThreshold(threshold=_clip(rising[misses]), bound=bound)


def threshold_for_budget(scores: Scores, share: float, delta: float) -> PromisedThreshold | Shortfall:
    """Return the lowest threshold that flags at most a share of all inputs, with confidence 1 - `delta`.

    The tests go from the highest threshold down, as in `threshold_for_recall`. No labels are needed.

    Args:
        scores: of inputs as they come in use.
        share: of the inputs, 0..1, ends excluded.
        delta: the chance that more are flagged, 0..1, ends excluded.
    """
    falling = np.sort(scores)[::-1]
    flagged = _most_misses(len(falling), 1 - share, delta)
    if flagged < 0:
        least = _least(lambda n: bool(upper_bound(0, n, delta) <= share), 1)
        possible = float(upper_bound(0, len(falling), delta)) if len(falling) else 1.0
        return Shortfall(missing=least - len(falling), possible=possible)
    threshold = falling[flagged] + STEP  # what is as high as the next one would be flagged with it
    if threshold > 1:
        certain = int((falling >= 1).sum())
        possible = float(upper_bound(certain, len(falling), delta))
        return Shortfall(missing=0, possible=possible, threshold=1.0)
    return PromisedThreshold(
        threshold=_clip(threshold), bound=float(upper_bound(flagged, len(falling), delta))
    )


def threshold_for_precision(
    pilot: LabelledScores, test: LabelledScores, *, precision: float, prevalence: float, delta: float
) -> PromisedThreshold | Shortfall:
    """Return the lowest threshold whose precision is at least a target, with confidence 1 - `delta`.

    Precision at a prevalence p is p * recall / (p * recall + (1 - p) * false-alarm rate): `delta` is split
    between a lower bound of the recall and an upper one of the false-alarm rate. The tests go from a strict
    threshold to laxer ones. Where they begin is chosen on inputs that take no part in them (split fixed
    sequence testing): at the strictest thresholds there is nothing to count, and nothing would pass.

    Args:
        pilot: chooses where the tests begin.
        test: other inputs, all tests are on; both kinds drawn as those in use are, in whatever proportion.
        precision: the share of the flagged inputs that must be flagged, 0..1, ends excluded.
        prevalence: the share of such inputs in use, 0..1, ends excluded.
        delta: the chance that the promise is broken, 0..1, ends excluded.
    """
    missing = _missing_negatives(test, precision, prevalence, delta)
    if not all(map(len, (pilot.positives, pilot.negatives, test.positives, test.negatives))):
        return Shortfall(missing=missing, possible=0.0)
    start = _start(pilot, test, precision, prevalence, delta)
    observed = np.unique(np.concatenate([test.positives, test.negatives, [start]]))
    order = observed[np.isfinite(observed) & (observed <= start)][::-1]
    bounds = _precision(
        _count(test.positives, order), len(test.positives), _count(test.negatives, order),
        len(test.negatives), prevalence, delta,
    )  # fmt: skip
    passed = int(np.logical_and.accumulate(bounds >= precision).sum())
    if not passed:
        return Shortfall(missing=missing, possible=float(bounds[0]), threshold=_clip(order[0]))
    return PromisedThreshold(threshold=_clip(order[passed - 1]), bound=float(bounds[passed - 1]))


def _start(
    pilot: LabelledScores, test: LabelledScores, precision: float, prevalence: float, delta: float
) -> float:
    """Return a strict threshold that is likely to pass: half-way, by recall, of those that might.

    They reach from the strictest that would pass without a false alarm to the one with the best bound.
    """
    strict = np.unique(np.concatenate([pilot.positives, pilot.negatives]))
    strict = np.clip(strict[np.isfinite(strict)], 0.0, 1.0)
    if not len(strict):
        return 1.0
    caught = _count(pilot.positives, strict) / len(pilot.positives) * len(test.positives)
    alarms = (_count(pilot.negatives, strict) + 1) / (len(pilot.negatives) + 1) * len(test.negatives)
    sizes = len(test.positives), len(test.negatives)
    best = int(np.argmax(_precision(caught, sizes[0], alarms, sizes[1], prevalence, delta)))
    hopeful = np.flatnonzero(
        _precision(caught, sizes[0], 0 * alarms, sizes[1], prevalence, delta) >= precision
    )
    strictest = int(hopeful[-1]) if len(hopeful) else best
    middle = (caught[best] + caught[strictest]) / 2
    return float(strict[np.flatnonzero(caught >= middle)[-1]])


def _precision(
    caught: ArrayLike, positives: int, alarms: ArrayLike, negatives: int, prevalence: float, delta: float
) -> Scores:
    """Return the lower bound of the precision at a prevalence."""
    if not positives or not negatives:
        return np.zeros(np.shape(caught))
    recall = prevalence * lower_bound(caught, positives, delta / 2)
    false = (1 - prevalence) * upper_bound(alarms, negatives, delta / 2)
    return np.asarray(recall / (recall + false))


def _missing_negatives(test: LabelledScores, precision: float, prevalence: float, delta: float) -> int:
    """Return how many more negatives could do, without a false alarm; 0 if positives are missing first."""
    positives, negatives = len(test.positives), len(test.negatives)
    if not positives:
        return 0
    needed = _least(
        lambda n: bool(_precision(positives, positives, 0, n, prevalence, delta) >= precision),
        max(negatives, 1),
    )
    return needed - negatives


def _count(scores: Scores, thresholds: Scores) -> Scores:
    """Return how many scores are at or over each threshold."""
    return np.asarray(len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left"), np.float64)


def _most_misses(trials: int, rate: float, delta: float) -> int:
    """Return of how many misses at most the lower bound is still `rate`; -1 if even none are too many."""
    low, high = -1, trials  # `trials` misses promise 0
    while high - low > 1:
        middle = (low + high) // 2
        passes = bool(lower_bound(trials - middle, trials, delta) >= rate)
        low, high = (middle, high) if passes else (low, middle)
    return low


def _least(passes: Callable[[int], bool], start: int) -> int:
    """Return the least whole number from `start` on that passes; all after it do."""
    low, high = start - 1, start
    while not passes(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _clip(score: float) -> float:
    """Return a threshold on the grid of scores, 0..1."""
    return round(min(max(float(score), 0.0), 1.0), DIGITS)
