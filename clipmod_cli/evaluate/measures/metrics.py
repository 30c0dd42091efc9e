"""How good answers are: rates, areas, confusion, calibration, what to expect of real traffic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from clipmod_cli.evaluate.intervals import (
    Estimate,
    Flags,
    Floats,
    LabelWeights,
    areas,
    interval_of,
    rate,
    rates_posterior,
)
from clipmod_cli.evaluate.samples import Answers, JudgedInput, Pairs

BINS: Final = 10
FEW_POSITIVES: Final = 30
"""With fewer, a recall is hardly known: the interval of 27 of 30 is 0.74 to 0.97."""

OUTCOMES: Final = ("NSFW", "review", "Safe", "error")
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good one judge's answers to one question are.

    Errors count as not caught, as wrong, and as no false alarm.

    Attributes:
        recall: share of the positives that are flagged.
        precision: share of the flagged that are positive, at the labels' own mix.
        false_alarm_rate: share of the negatives that are flagged.
        accuracy: share that is answered as labelled, at the labels' own mix.
        f1: harmonic mean of recall and precision.
        recall_with_review: share of the positives that are flagged or sent to review.
        load: share of all that are flagged or sent to review.
        auroc: chance that a positive scores higher than a negative.
        average_precision: area under the curve of precision over recall.
    """

    n: int
    positives: int
    negatives: int
    errors: int
    recall: Estimate
    precision: Estimate
    false_alarm_rate: Estimate
    accuracy: Estimate
    f1: Estimate
    recall_with_review: Estimate
    load: Estimate
    auroc: Estimate
    average_precision: Estimate

    @property
    def few(self) -> bool:
        """Whether there are too few positives to say much."""
        return self.positives < FEW_POSITIVES


def quality(answers: Answers) -> Quality:
    """Return how good the answers are."""
    positive, flagged = answers.positive, answers.flagged
    looked_at = flagged | answers.review
    recall = share(answers, flagged, positive)
    false_alarms = share(answers, flagged, ~positive)
    ranked = answers.among(~answers.failed | positive)
    # an error among the positives ranks below all: it is not caught at any threshold
    score = np.where(ranked.failed, -1.0, ranked.score)
    ranking_area, precision_area = areas(ranked.positive, score, ranked.weight)
    return Quality(
        n=len(positive),
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        errors=int(answers.failed.sum()),
        recall=recall,
        precision=share_by_label(answers, positive, flagged),
        false_alarm_rate=false_alarms,
        accuracy=share_by_label(answers, (flagged == positive) & ~answers.failed),
        f1=_f1(answers, recall, false_alarms),
        recall_with_review=share(answers, looked_at, positive),
        load=share(answers, looked_at),
        auroc=ranking_area,
        average_precision=precision_area,
    )


def share(answers: Answers, hits: Flags, among: Flags | None = None) -> Estimate:
    """Return the share of hits among some of the answers, or all, where no label decides which are hits.

    So inputs of the other label tell too how heavy a hit and a miss could be.
    """
    chosen = np.ones(len(hits), bool) if among is None else among
    if answers.weight is None:
        return rate(hits[chosen])
    weight = answers.weight
    heaviest = [float(weight[one].max()) if one.any() else None for one in (hits, ~hits)]
    return rate(hits[chosen], LabelWeights(each=weight[chosen], hit=heaviest[0], miss=heaviest[1]))


def share_by_label(answers: Answers, hits: Flags, among: Flags | None = None) -> Estimate:
    """Return the share of hits among some of the answers, or all, where labels decide which are hits.

    No label decides which answers count, so how heavy hits and misses could be is known of these alone.
    """
    chosen = np.ones(len(hits), bool) if among is None else among
    weight = answers.weight
    return rate(hits[chosen], None if weight is None else LabelWeights(each=weight[chosen]))


def _f1(answers: Answers, recall: Estimate, false_alarms: Estimate) -> Estimate:
    """Return F1, with the interval that the uncertainty of both rates gives it."""
    n = len(answers.positive)
    if recall.value is None or false_alarms.value is None:
        return Estimate(value=None, n=n)
    weight = np.ones(n) if answers.weight is None else answers.weight
    positives, negatives = weight[answers.positive].sum(), weight[~answers.positive].sum()

    def f1(caught: Floats, alarms: Floats) -> Floats:
        hits: Floats = positives * caught
        found: Floats = 2 * hits / (hits + negatives * alarms + positives)
        return found

    return _computed(f1, recall, false_alarms, n)


def confusion(pairs: Pairs) -> dict[str, dict[str, int]]:
    """Return how many inputs of each label came to which outcome."""
    table: dict[str, Counter[str]] = {"NSFW": Counter(), "Safe": Counter()}
    for pair in pairs:
        table[pair.label.decision][pair.judged.outcome] += 1
    return {label: {outcome: counts[outcome] for outcome in OUTCOMES} for label, counts in table.items()}


def category_confusion(pairs: Pairs, categories: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many inputs of each labelled category were put into which; errors under `error`.

    Args:
        pairs: the labelled inputs.
        categories: of the policy, in the order of rows and columns.
    """
    table: dict[str, Counter[str]] = {category: Counter() for category in categories}
    for pair in pairs:
        if pair.label.category is not None:
            table[pair.label.category][pair.judged.category or "error"] += 1
    seen = [name for name in (*categories, "error") if any(counts[name] for counts in table.values())]
    return {label: {name: counts[name] for name in seen} for label, counts in table.items() if counts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """A tenth of the scores: their mean, and the share of positives among them."""

    mean_score: float
    positives: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Whether scores are probabilities, at the labels' own mix.

    Attributes:
        ece: expected calibration error over bins of equal mass, 0..1.
        brier: mean squared difference between score and label, 0..1.
        bins: the reliability curve, from low to high scores.
    """

    ece: float
    brier: float
    bins: list[Bin]


def calibration(answers: Answers) -> Calibration | None:
    """Return how well calibrated the scores are; None if nothing was judged."""
    judged = answers.among(~answers.failed)
    if not len(judged.score):
        return None
    weight = np.ones(len(judged.score)) if judged.weight is None else judged.weight
    edges = np.percentile(judged.score, np.linspace(0, 100, BINS + 1))[1:-1]
    place = np.searchsorted(edges, judged.score)
    bins, ece = [], 0.0
    for number in np.unique(place):
        inside = place == number
        mean = float(np.average(judged.score[inside], weights=weight[inside]))
        found = share_by_label(judged, judged.positive, inside)
        bins.append(Bin(mean_score=mean, positives=found))
        ece += abs(mean - (found.value or 0.0)) * weight[inside].sum() / weight.sum()
    brier = float(np.average((judged.score - judged.positive) ** 2, weights=weight))
    return Calibration(ece=float(ece), brier=brier, bins=bins)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtPrevalence:
    """What to expect where another share of the inputs is positive than among the labels.

    Attributes:
        prevalence: that share, 0..1.
        seconds_each: how long a person looks at an input.
        precision: share of the flagged inputs that are positive.
        flagged: inputs of a million that are flagged.
        missed: positives of a million that are neither flagged nor sent to review.
        looked_at: inputs of a million that are flagged or sent to review.
        hours: time of people to look at those.
    """

    prevalence: float
    seconds_each: float
    precision: Estimate
    flagged: Estimate
    missed: Estimate
    looked_at: Estimate
    hours: Estimate


def at_prevalence(answers: Answers, prevalence: float, *, seconds_each: float) -> AtPrevalence | None:
    """Return what to expect at a prevalence 0..1; None without both kinds of labels."""
    positive = answers.positive
    if not 0 < positive.sum() < len(positive):
        return None
    looked_at = answers.flagged | answers.review
    decided = share(answers, answers.flagged, positive), share(answers, answers.flagged, ~positive)
    seen = share(answers, looked_at, positive), share(answers, looked_at, ~positive)

    def both(caught: Floats, alarms: Floats) -> Floats:
        return prevalence * caught + (1 - prevalence) * alarms

    def precision(caught: Floats, alarms: Floats) -> Floats:
        flagged = both(caught, alarms)
        return np.divide(prevalence * caught, flagged, out=np.full_like(flagged, np.nan), where=flagged > 0)

    n = len(positive)
    return AtPrevalence(
        prevalence=prevalence,
        seconds_each=seconds_each,
        precision=_computed(precision, *decided, n),
        flagged=_computed(lambda caught, alarms: MILLION * both(caught, alarms), *decided, n),
        missed=_computed(lambda caught, _: MILLION * prevalence * (1 - caught), *seen, n),
        looked_at=_computed(lambda caught, alarms: MILLION * both(caught, alarms), *seen, n),
        hours=_computed(
            lambda caught, alarms: MILLION * both(caught, alarms) * seconds_each / 3600, *seen, n
        ),
    )


def _computed(
    function: Callable[[Floats, Floats], Floats], recall: Estimate, false_alarms: Estimate, n: int
) -> Estimate:
    """Return what a function makes of both rates, with the interval that their uncertainty gives it."""
    value = float(function(np.array([recall.value]), np.array([false_alarms.value]))[0])
    low, high = interval_of(function(*rates_posterior(recall, false_alarms)))
    if np.isnan(value):  # nothing was flagged
        return Estimate(value=None, low=low, high=high, n=n)
    return Estimate(value=value, low=min(low, value), high=max(high, value), n=n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The quality on inputs that have something in common.

    Attributes:
        few: there are too few positives to say much.
    """

    name: str
    n: int
    positives: int
    few: bool
    recall: Estimate
    false_alarm_rate: Estimate
    recall_with_review: Estimate
    errors: int


SIDES: Final = (256, 512, 1024)
"""Bounds of sizes, by the shorter side in pixels."""


def _size_of(one: JudgedInput) -> str:
    if one.width is None or one.height is None:
        return "unknown"
    side = min(one.width, one.height)
    below = next((bound for bound in SIDES if side < bound), None)
    return f"under {below} px" if below else f"{SIDES[-1]} px or more"


SLICES: Final[Mapping[str, Callable[[JudgedInput], str]]] = {
    "format": lambda one: one.format or "unknown",
    "size": _size_of,
    "kind": lambda one: one.kind or "unknown",
}
"""What inputs can be told apart by, for `--slice`."""


def slices(answers: Answers, pairs: Pairs, by: str) -> list[Slice]:
    """Return the quality by format, size or kind, the largest slice first."""
    names = np.array([SLICES[by](pairs[row].judged) for row in answers.rows])
    found = [(name, answers.among(names == name)) for name in sorted(set(names.tolist()))]
    return [_slice(name, inside) for name, inside in sorted(found, key=lambda one: -len(one[1].rows))]


def _slice(name: str, answers: Answers) -> Slice:
    positives = int(answers.positive.sum())
    return Slice(
        name=name,
        n=len(answers.rows),
        positives=positives,
        few=positives < FEW_POSITIVES,
        recall=share(answers, answers.flagged, answers.positive),
        false_alarm_rate=share(answers, answers.flagged, ~answers.positive),
        recall_with_review=share(answers, answers.flagged | answers.review, answers.positive),
        errors=int(answers.failed.sum()),
    )
