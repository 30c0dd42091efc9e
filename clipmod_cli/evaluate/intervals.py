"""Rates and areas with their 95 % intervals: Wilson's for rates, the bootstrap's for areas under curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

CONFIDENCE: Final = 0.95
_Z: Final = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
_TAILS: Final = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
"""Percentiles that an interval ends at."""

REPLICATES: Final = 1_000
LEAST_REPLICATES: Final = 200
"""With very many labels: their intervals are so narrow that the end's last digit does not matter."""

RESAMPLED: Final = 5_000_000
"""Inputs in all resamples together, beyond which there are fewer resamples."""

NEXT_TO: Final = 1e-9
"""Of the way from a share to an end: there the share itself is within its interval."""

DRAWS: Final = 20_000
SEED: Final = 14
"""The same labels give the same intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: None where there is nothing to compute it from.
        low: likewise; also None where the labels cannot bound it.
        high: likewise.
        n: the labelled inputs that it is computed from.
        hits: of a rate, how many of these count; None for other numbers.
        trials: of a rate, how many unweighted inputs would bound it as well; `n` without weights. Not whole.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    hits: int | None = None
    trials: float | None = None


def wilson(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share 0..1 that was seen in `n` trials, not necessarily whole."""
    spread = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    middle, scale = share + _Z**2 / (2 * n), 1 + _Z**2 / n
    low = 0.0 if share == 0 else float(max(0.0, (middle - spread) / scale))
    return low, 1.0 if share == 1 else float(min(1.0, (middle + spread) / scale))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelWeights:
    """How many inputs of the population each labelled one stands for.

    Attributes:
        each: `(n,)`.
        hit: the most that a hit could have stood for, had one been drawn; None for the most of `each`.
        miss: likewise.
    """

    each: Floats
    hit: float | None = None
    miss: float | None = None


def rate(hits: Flags, weights: LabelWeights | None = None) -> Estimate:
    """Return the share of the inputs that are hits.

    Args:
        hits: `(n,)`.
        weights: None if all count the same. The share is then Horvitz-Thompson's, both sums weighted, and its
            interval that of `weighted_interval`.
    """
    n, count = len(hits), int(hits.sum())
    if not n:
        return Estimate(value=None)
    if weights is None:
        share, trials = count / n, float(n)
        low, high = wilson(share, trials)
    else:
        share = 1.0 if count == n else float(weights.each[hits].sum() / weights.each.sum())
        low, high = weighted_interval(hits, weights)
        trials = _trials(share, low, high)
    return Estimate(value=share, low=low, high=high, n=n, hits=count, trials=trials)


def weighted_interval(hits: Flags, weights: LabelWeights) -> tuple[float, float]:
    """Return the score interval of a weighted share; with equal weights it is Wilson's.

    Hits and misses are counts of Poisson, of which each stands for `scale` inputs. As in Fay and Feuer's
    interval (Stat. Med. 16, 1997) one more is added at the weight that the heaviest could have: where flagged
    inputs were all labelled and of the others one in a hundred, no miss among the labels may still be
    hundreds. The limits are the shares whose score test has the confidence, with the total that is most
    likely for each share.
    """
    caught, missed = weights.each[hits], weights.each[~hits]
    most = float(weights.each.max())
    hit_scale = _scale(caught, most if weights.hit is None else weights.hit)
    miss_scale = _scale(missed, most if weights.miss is None else weights.miss)
    total, count = float(weights.each.sum()), caught.sum() / hit_scale + missed.sum() / miss_scale
    share = float(caught.sum() / total)

    def excess(other: float) -> float:
        likely = count / (other / hit_scale + (1 - other) / miss_scale)
        spread = other * (1 - other) * ((1 - other) * hit_scale + other * miss_scale)
        return float((total * (share - other)) ** 2 - _Z**2 * likely * spread)

    return _limit(excess, share, 0.0), _limit(excess, share, 1.0)


def _limit(excess: Callable[[float], float], share: float, end: float) -> float:
    """Return where `excess` crosses zero between a share and an end of 0..1; the share itself if nowhere."""
    from scipy.optimize import brentq

    if share == end:
        return end
    near = share + (end - share) * NEXT_TO
    return float(brentq(excess, near, end)) if excess(near) < 0 < excess(end) else share


def _scale(weight: Floats, heaviest: float) -> float:
    """Return for how many inputs one of these stands, by their variance, with one more at the heaviest."""
    return float((np.square(weight).sum() + heaviest**2) / (weight.sum() + heaviest))


def _trials(share: float, low: float, high: float) -> float:
    """Return how many unweighted trials have Wilson's interval as wide, on the wider side."""
    limits = [limit for limit in (low, high) if 0 < limit < 1 and limit != share]
    return min(_Z**2 * limit * (1 - limit) / (share - limit) ** 2 for limit in limits)


def rates_posterior(recall: Estimate, false_alarms: Estimate) -> tuple[Floats, Floats]:
    """Return draws of recall and false-alarm rate, each from Jeffreys' posterior, `(DRAWS,)`.

    For intervals of what is computed from both, such as precision at another prevalence.
    """
    rng = np.random.default_rng(SEED)
    return _draws(recall, rng), _draws(false_alarms, rng)


def _draws(one: Estimate, rng: np.random.Generator) -> Floats:
    if one.value is None or one.trials is None:
        raise ValueError("no draws of a rate without trials")
    return rng.beta(one.value * one.trials + 0.5, (1 - one.value) * one.trials + 0.5, DRAWS)


def interval_of(draws: Floats) -> tuple[float, float]:
    """Return the interval of a number from draws of it."""
    low, high = np.percentile(draws, _TAILS)
    return float(low), float(high)


Curve: TypeAlias = Callable[[Floats, Floats], float]
"""From the weight of positives and of negatives at or over each score, from high to low, `(k,)` each."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Labelled scores in falling order.

    Attributes:
        order: the inputs' numbers in that order, `(n,)`; the two next are in it too.
        positive: `(n,)`.
        weight: `(n,)`.
        last: the positions at which each run of equal scores ends, `(k,)`.
    """

    order: NDArray[np.intp]
    positive: Flags
    weight: Floats
    last: NDArray[np.intp]

    @classmethod
    def of(cls, positive: Flags, score: Floats, weight: Floats | None = None) -> Ranking:
        """Sort labelled scores, all finite."""
        order = np.argsort(-score, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
        weights = np.ones(len(score)) if weight is None else weight
        return cls(order, positive[order], weights[order], ends)

    def hits(self, times: Floats) -> tuple[Floats, Floats]:
        """Return the weight of positives and of negatives at or over each score, from high to low, `(k,)`.

        Args:
            times: how often each input counts, `(n,)` in the inputs' own order.
        """
        weight = self.weight * times[self.order]
        caught = np.cumsum(np.where(self.positive, weight, 0.0))[self.last]
        return caught, np.cumsum(weight)[self.last] - caught


def auroc(caught: Floats, alarms: Floats) -> float:
    """Return the area under the ROC curve, by the trapezoidal rule."""
    area = np.trapezoid(np.append(0.0, caught), np.append(0.0, alarms))
    return float(area / (caught[-1] * alarms[-1]))


def average_precision(caught: Floats, alarms: Floats) -> float:
    """Return the average precision: each step of recall times the precision there."""
    flagged = caught + alarms
    precision = np.divide(caught, flagged, out=np.zeros_like(caught), where=flagged > 0)
    return float((np.diff(caught, prepend=0.0) * precision).sum() / caught[-1])


def resamples(positive: Flags) -> Iterator[Floats]:
    """Yield how often each input counts in each bootstrap sample, `(n,)` each.

    Positives and negatives are drawn apart, so that each sample has as many of both as the labels.
    """
    rng = np.random.default_rng(SEED)
    replicates = max(LEAST_REPLICATES, min(REPLICATES, RESAMPLED // len(positive)))
    groups = [np.flatnonzero(positive), np.flatnonzero(~positive)]
    for _ in range(replicates):
        times = np.zeros(len(positive))
        for group in groups:
            times[group] = np.bincount(rng.integers(0, len(group), len(group)), minlength=len(group))
        yield times


def areas(positive: Flags, score: Floats, weight: Floats | None = None) -> tuple[Estimate, Estimate]:
    """Return AUROC and average precision with percentile bootstrap intervals; no values without both kinds.

    Where no resample differs, as with scores that separate the labels wholly, the bootstrap knows no bound:
    AUROC is then bounded by the pairs of one positive and one negative that share no input, and average
    precision is not bounded.
    """
    n, positives = len(positive), int(positive.sum())
    if not 0 < positives < n:
        return Estimate(value=None, n=n), Estimate(value=None, n=n)
    ranking = Ranking.of(positive, score, weight)

    def measure(times: Floats) -> tuple[float, float]:
        hits = ranking.hits(times)
        return auroc(*hits), average_precision(*hits)

    values = measure(np.ones(n))
    drawn = np.array([measure(times) for times in resamples(positive)])
    found = []
    for value, (low, high) in zip(values, map(interval_of, drawn.T), strict=True):
        bounded = low < high
        found.append(Estimate(value=value, low=low if bounded else None, high=high if bounded else None, n=n))
    if found[0].low is None:
        low, high = wilson(values[0], min(positives, n - positives))
        found[0] = Estimate(value=values[0], low=low, high=high, n=n)
    return found[0], found[1]
