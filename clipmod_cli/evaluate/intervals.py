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
        trials: of a rate, how many unweighted inputs would bound it as well; `n` without weights.
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


def rate(hits: Flags, weight: Floats | None = None) -> Estimate:
    """Return the share of the inputs that are hits.

    Args:
        hits: `(n,)`.
        weight: how many inputs of the population each stands for, `(n,)`; None if all count the same. The
            share is then Horvitz-Thompson's, both sums weighted, and its interval Wilson's at the number of
            unweighted trials that would have the same variance.
    """
    n, count = len(hits), int(hits.sum())
    if not n:
        return Estimate(value=None)
    if weight is None:
        share, trials = count / n, float(n)
    else:
        share = 1.0 if count == n else float(weight[hits].sum() / weight.sum())
        trials = _effective_trials(hits, weight, share)
    low, high = wilson(share, trials)
    return Estimate(value=share, low=low, high=high, n=n, hits=count, trials=trials)


def _effective_trials(hits: Flags, weight: Floats, share: float) -> float:
    """Return how many unweighted trials have the variance of a weighted share; at most `n`."""
    kish = float(weight.sum() ** 2 / (weight**2).sum())
    if len(hits) < 2 or share in {0.0, 1.0}:
        return kish
    residuals = weight * (hits - share) / weight.sum()
    variance = float((residuals**2).sum() * len(hits) / (len(hits) - 1))
    return min(share * (1 - share) / variance, float(len(hits)))


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
