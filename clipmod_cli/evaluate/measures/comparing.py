"""Two sets of records on the same labels: which differences are more than chance, and what changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.intervals import (
    Curve,
    Estimate,
    Flags,
    Floats,
    Ranking,
    auroc,
    average_precision,
    interval_of,
    resamples,
)
from clipmod_cli.evaluate.samples import NSFW, Answers, LabelledSet

ALPHA: Final = 0.05
"""A p-value under this is called a difference."""


TINY: Final = 1e-6
"""Less than that a whole number may be missing by rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """McNemar's exact test: inputs that one of two judges alone got right.

    Attributes:
        ours: right here, wrong in the others; labelled inputs, without their weights.
        theirs: wrong here, right in the others; likewise.
        p: chance of so uneven a split if both are equally good. With weights the split is that of the inputs
            that the labels stand for, among so many as have its variance (Kish's effective number).
    """

    ours: int
    theirs: int
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """An input that the two decide differently.

    Attributes:
        name: of the input.
        label: what it should be.
        before: the outcome in the other records.
        after: the outcome in these.
    """

    name: str
    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """These records against others, on the inputs that both have.

    Attributes:
        n: inputs in both.
        accuracy: the test over all inputs.
        caught: over the positives alone: which of the two catches more.
        spared: over the negatives alone: which of the two raises fewer false alarms.
        differences: these less the others, by metric, with paired bootstrap intervals.
        flips: inputs with another outcome.
    """

    name: str
    n: int
    accuracy: McNemar
    caught: McNemar
    spared: McNemar
    differences: dict[str, Estimate]
    flips: list[Flip]


def compare(ours: LabelledSet, theirs: LabelledSet, name: str, question: str = NSFW) -> Comparison:
    """Return how these records differ from others with the same labels.

    Raises:
        UsageError: they have no labelled input in common.
    """
    ours, theirs = _in_common(ours, theirs, name)
    here, there = ours.answers(question), theirs.answers(question)
    shared, mine, other = np.intersect1d(here.rows, there.rows, return_indices=True)
    one, two = here.among(mine), there.among(other)
    weight = np.ones(len(shared)) if one.weight is None else one.weight
    mine_right, theirs_right = ((a.flagged == a.positive) & ~a.failed for a in (one, two))

    def test(among: Flags) -> McNemar:
        return _mcnemar(mine_right[among], theirs_right[among], weight[among])

    return Comparison(
        name=name,
        n=len(shared),
        accuracy=test(np.ones(len(shared), bool)),
        caught=test(one.positive),
        spared=test(~one.positive),
        differences=_differences(one, two),
        flips=_flips(ours, theirs),
    )


def _in_common(ours: LabelledSet, theirs: LabelledSet, name: str) -> tuple[LabelledSet, LabelledSet]:
    """Return both with only the labels that both have, in one order."""
    there = {id(pair.label): pair for pair in theirs.pairs}
    here = [pair for pair in ours.pairs if id(pair.label) in there]
    if not here:
        raise UsageError(f"{name} has no labelled input in common with these records")
    return ours.with_pairs(here), theirs.with_pairs([there[id(pair.label)] for pair in here])


def _mcnemar(ours: Flags, theirs: Flags, weight: Floats) -> McNemar:
    from scipy.stats import binomtest

    mine, other = ours & ~theirs, theirs & ~ours
    split = weight[mine | other]
    if not len(split):
        return McNemar(ours=0, theirs=0, p=1.0)
    trials = int(split.sum() ** 2 / np.square(split).sum() + TINY)  # without weights all of them
    wins = round(trials * float(weight[mine].sum() / split.sum()))
    return McNemar(ours=int(mine.sum()), theirs=int(other.sum()), p=float(binomtest(wins, trials).pvalue))


def _differences(one: Answers, two: Answers) -> dict[str, Estimate]:
    positive = one.positive
    if not 0 < positive.sum() < len(positive):
        return {}
    rates = {
        "recall": (positive, one.flagged, two.flagged),
        "false_alarm_rate": (~positive, one.flagged, two.flagged),
        "recall_with_review": (positive, one.flagged | one.review, two.flagged | two.review),
    }
    weight = np.ones(len(positive)) if one.weight is None else one.weight
    rankings = [_ranking(answers) for answers in (one, two)]
    curves: dict[str, Curve] = {"auroc": auroc, "average_precision": average_precision}

    def measure(times: Floats) -> list[float]:
        counted = weight * times
        found = [
            float(np.average(mine[among].astype(float) - other[among], weights=counted[among]))
            for among, mine, other in rates.values()
        ]
        ours, theirs = (ranking.hits(times) for ranking in rankings)
        return found + [curve(*ours) - curve(*theirs) for curve in curves.values()]

    values = measure(np.ones(len(positive)))
    drawn = np.array([measure(times) for times in resamples(positive)])
    return {
        metric: Estimate(value=value, low=low, high=high, n=len(positive))
        for metric, value, (low, high) in zip(
            (*rates, *curves), values, map(interval_of, drawn.T), strict=True
        )
    }


def _ranking(answers: Answers) -> Ranking:
    # an input that failed ranks below all: in both records it must have a place
    score = np.where(answers.failed, -1.0, answers.score)
    return Ranking.of(answers.positive, score, answers.weight)


def _flips(ours: LabelledSet, theirs: LabelledSet) -> list[Flip]:
    """Return the changed outcomes, those that are wrong now first."""
    flips = [
        Flip(
            name=pair.judged.name,
            label=pair.label.decision,
            before=other.judged.outcome,
            after=pair.judged.outcome,
        )
        for pair, other in zip(ours.pairs, theirs.pairs, strict=True)
        if pair.judged.outcome != other.judged.outcome
    ]
    return sorted(flips, key=lambda flip: (flip.after == flip.label, flip.label, flip.name))
