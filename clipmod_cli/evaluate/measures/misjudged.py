"""Lists of inputs: what was missed, what was flagged wrongly, and which labels may be wrong themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipmod_cli.evaluate.samples import Answers, Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedInput:
    """An input in a list.

    Attributes:
        run_id: of the run that judged it.
        peak_s: where in a film its worst frame is, in seconds; None without a segment.
        label: its category, or NSFW or Safe.
        outcome: of its record.
        score: of the question asked, 0..1; None if it could not be judged.
        category: the ensemble's.
        error: its code.
    """

    source: str
    run_id: str | None
    member: str | None
    sha256: str | None
    kind: str | None
    peak_s: float | None
    label: str
    outcome: str
    score: float | None
    category: str | None
    error: str | None

    @property
    def name(self) -> str:
        """The input's name for people."""
        return f"{self.member} in {self.source}" if self.member else self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Misjudged:
    """The wrong answers to a question, the worst first.

    Attributes:
        missed: positives that were neither flagged nor sent to review, errors among them.
        reviewed: positives that were only sent to review.
        false_alarms: negatives that were flagged.
    """

    missed: list[ListedInput]
    reviewed: list[ListedInput]
    false_alarms: list[ListedInput]


def misjudged(answers: Answers, pairs: Pairs) -> Misjudged:
    """Return the inputs that were answered wrongly."""
    wrong = answers.positive & ~answers.flagged
    return Misjudged(
        missed=_listed(answers, pairs, wrong & ~answers.review, falling=False),
        reviewed=_listed(answers, pairs, wrong & answers.review, falling=False),
        false_alarms=_listed(answers, pairs, answers.flagged & ~answers.positive, falling=True),
    )


def suspect_labels(answers: Answers, pairs: Pairs) -> list[ListedInput]:
    """Return the inputs whose labels may be wrong, the most suspect first.

    By confident learning (Northcutt et al., arXiv 1911.00068): an input is suspect if it scores as inputs of
    the other label do on average, or more so.
    """
    judged = answers.among(~answers.failed)
    if not 0 < judged.positive.sum() < len(judged.positive):
        return []
    high, low = judged.score[judged.positive].mean(), judged.score[~judged.positive].mean()
    if high <= low:  # scores without information misjudge nothing
        return []
    suspect = np.where(judged.positive, judged.score <= low, judged.score >= high)
    distance = np.abs(judged.score - judged.positive)
    order = [number for number in np.argsort(-distance, kind="stable") if suspect[number]]
    return [_input(judged, pairs, number) for number in order]


def _listed(answers: Answers, pairs: Pairs, chosen: np.ndarray, *, falling: bool) -> list[ListedInput]:
    numbers = np.flatnonzero(chosen)
    order = np.argsort(-answers.score[numbers] if falling else answers.score[numbers], kind="stable")
    return [_input(answers, pairs, number) for number in numbers[order]]


def _input(answers: Answers, pairs: Pairs, number: int) -> ListedInput:
    pair, score = pairs[answers.rows[number]], float(answers.score[number])
    return ListedInput(
        source=pair.judged.source,
        run_id=pair.judged.run_id,
        member=pair.judged.member,
        sha256=pair.judged.sha256,
        kind=pair.judged.kind,
        peak_s=pair.judged.peak_s,
        label=pair.label.category or pair.label.decision,
        outcome=pair.judged.outcome,
        score=score if np.isfinite(score) else None,
        category=pair.judged.category,
        error=pair.judged.error,
    )
