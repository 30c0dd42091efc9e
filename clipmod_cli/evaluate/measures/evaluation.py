"""All that is measured on labelled inputs, as one value for the terminal, JSON and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from clipmod_cli import __version__
from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.intervals import CONFIDENCE
from clipmod_cli.evaluate.matching import Matches
from clipmod_cli.evaluate.measures.comparing import Comparison, compare
from clipmod_cli.evaluate.measures.curves import Curves, curves
from clipmod_cli.evaluate.measures.metrics import (
    AtPrevalence,
    Calibration,
    Quality,
    Slice,
    at_prevalence,
    calibration,
    category_confusion,
    confusion,
    quality,
    slices,
)
from clipmod_cli.evaluate.measures.misjudged import ListedInput, Misjudged, misjudged, suspect_labels
from clipmod_cli.evaluate.samples import ENSEMBLE, NSFW, JudgedInput, LabelledSet, Pairs
from clipmod_cli.records import write_name

SCHEMA_NAME: Final = "clipmod-eval/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCounts:
    """How labels and records met.

    Attributes:
        evaluated: different inputs with a label and a record.
        weighted: labels stand for different numbers of inputs.
        by_banks: inputs with a label that banks decided; they are left out.
    """

    given: int
    matched: int
    unmatched: int
    conflicting: int
    evaluated: int
    copies: int
    unlabelled_records: int
    weighted: bool
    by_banks: int = 0

    @classmethod
    def of(cls, matches: Matches[JudgedInput]) -> LabelCounts:
        """Return the counts of a join."""
        return cls(
            given=matches.labels,
            matched=matches.matched,
            unmatched=len(matches.unmatched),
            conflicting=matches.labels - matches.matched - len(matches.unmatched),
            evaluated=len(matches.pairs),
            copies=matches.copies,
            unlabelled_records=matches.unlabelled,
            weighted=matches.weighted,
            by_banks=matches.by_banks,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Time and memory.

    Attributes:
        latency_median_ms: from an input's start to its record, queueing included.
        latency_p95_ms: likewise.
        compute_median_ms: an input's own share of the work.
        wall_s: of the scan, if `eval` made it; the other two likewise.
        inputs_per_s: judged.
        peak_memory_mb: of the process and its largest worker together.
    """

    latency_median_ms: float | None
    latency_p95_ms: float | None
    compute_median_ms: float | None
    wall_s: float | None = None
    inputs_per_s: float | None = None
    peak_memory_mb: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanCost:
    """What a scan that `eval` made itself took, for inputs that an earlier run had not judged."""

    wall_s: float
    inputs: int
    peak_memory_mb: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured.

    Attributes:
        positive: the question that the single tables and lists are of: NSFW, or a category.
        quality: by question, by judge (`ensemble`, a model's name).
        confusion: by label, by outcome.
        category_confusion: by labelled category, by the ensemble's category.
        slices: by what inputs are told apart by.
    """

    name: str
    policy: str | None
    policy_hash: str | None
    threshold: float | None
    positive: str
    labels: LabelCounts
    quality: dict[str, dict[str, Quality]]
    confusion: dict[str, dict[str, int]]
    category_confusion: dict[str, dict[str, int]]
    calibration: Calibration | None
    curves: Curves | None
    prevalence: AtPrevalence | None
    slices: dict[str, list[Slice]]
    against: Comparison | None
    misjudged: Misjudged
    suspect_labels: list[ListedInput]
    cost: Cost

    @property
    def headline(self) -> Quality:
        """The quality of the ensemble's answers to the question that was asked."""
        return self.quality[self.positive][ENSEMBLE]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values; numbers have at most 6 decimals, and names are valid Unicode."""
        head = {"schema": SCHEMA_NAME, "clipmod": __version__, "confidence": CONFIDENCE}
        plain: dict[str, Any] = _plain(asdict(self))
        return head | plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to measure beside the quality.

    Attributes:
        prevalence: share of positives in real traffic, 0..1.
        seconds_each: how long a person looks at an input.
        slices: keys of `metrics.SLICES`.
        against: other records with the same labels, and their name.
        scan: what the scan took.
    """

    positive: str = NSFW
    prevalence: float | None = None
    seconds_each: float = 10.0
    slices: Sequence[str] = ()
    against: tuple[str, LabelledSet] | None = None
    scan: ScanCost | None = None


def evaluate(name: str, labelled: LabelledSet, counts: LabelCounts, wanted: Wanted) -> Evaluation:
    """Return what was measured.

    Raises:
        UsageError: no label answers the question, or the other records have none of these inputs.
    """
    # compact records have no scores of categories
    questions = [
        question
        for question in labelled.questions
        if question == NSFW or not labelled.answers(question).failed.all()
    ]
    if wanted.positive not in questions:
        raise UsageError(
            f"no label and score tell whether an input is {wanted.positive}; --positive may be one of "
            + ", ".join(questions)
        )
    answers = labelled.answers(wanted.positive)
    policy, digest, threshold = labelled.pairs[0].judged.facts
    return Evaluation(
        name=name,
        policy=policy,
        policy_hash=digest,
        threshold=threshold,
        positive=wanted.positive,
        labels=counts,
        quality={question: _by_judge(labelled, question) for question in questions},
        confusion=confusion(labelled.pairs),
        category_confusion=category_confusion(labelled.pairs, labelled.categories),
        calibration=calibration(answers),
        curves=curves(answers),
        prevalence=None
        if wanted.prevalence is None
        else at_prevalence(answers, wanted.prevalence, seconds_each=wanted.seconds_each),
        slices={by: slices(answers, labelled.pairs, by) for by in wanted.slices},
        against=None
        if wanted.against is None
        else compare(labelled, wanted.against[1], wanted.against[0], wanted.positive),
        misjudged=misjudged(answers, labelled.pairs),
        suspect_labels=suspect_labels(answers, labelled.pairs),
        cost=_cost(labelled.pairs, wanted.scan),
    )


def _by_judge(labelled: LabelledSet, question: str) -> dict[str, Quality]:
    return {judge: quality(labelled.answers(question, judge)) for judge in (ENSEMBLE, *labelled.models)}


def _cost(pairs: Pairs, scan: ScanCost | None) -> Cost:
    latency = [pair.judged.latency_ms for pair in pairs if pair.judged.latency_ms is not None]
    compute = [pair.judged.compute_ms for pair in pairs if pair.judged.compute_ms is not None]
    return Cost(
        latency_median_ms=float(np.median(latency)) if latency else None,
        latency_p95_ms=float(np.percentile(latency, 95)) if latency else None,
        compute_median_ms=float(np.median(compute)) if compute else None,
        wall_s=scan.wall_s if scan else None,
        inputs_per_s=scan.inputs / scan.wall_s if scan and scan.inputs else None,
        peak_memory_mb=scan.peak_memory_mb if scan else None,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, str):
        return write_name(value)[0]
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
