"""From records to arrays: what each judge (the ensemble, a model) answered on the labelled inputs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.intervals import Flags, Floats
from clipmod_cli.evaluate.labels import Label
from clipmod_cli.evaluate.matching import LabelledInput
from clipmod_cli.judge.policy.values import DIGITS, Policy
from clipmod_cli.records import read_name
from clipmod_cli.types import Decision

ENSEMBLE: Final = "ensemble"
"""The judge whose answers are the records' decisions."""

NSFW: Final = "NSFW"
"""The question whether an input is NSFW; any other question is whether it is of a category."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedInput:
    """What evaluation needs of a record.

    Attributes:
        error: its code; None if the input was judged.
        probabilities: the ensemble's, by category; empty in a compact record.
        matched: categories that are over a threshold of their own.
        run_id: of the run that judged it.
        members: likewise by model.
        compute_ms: the input's own cost; None where the record does not tell.
        peak_s: where in a film its worst frame is, in seconds; None without a segment.
        facts: name and hash of the policy, and the threshold, that it was judged by.
        own_scores: by UNSAFE category, what its own threshold is compared with; empty in a compact record.
        by_bank: a bank of hashes decided, and no model looked at it.
        partial: not all models or frames were asked, since the outcome was certain: another threshold may
            have asked them.
    """

    source: str
    member: str | None
    sha256: str | None
    decision: Decision | None
    needs_review: bool
    error: str | None
    unsafe_score: float | None
    category: str | None
    probabilities: Mapping[str, float]
    matched: frozenset[str]
    members: Mapping[str, Mapping[str, float]]
    agreement: float | None
    kind: str | None
    format: str | None
    width: int | None
    height: int | None
    latency_ms: float | None
    compute_ms: float | None
    peak_s: float | None
    facts: tuple[str | None, str | None, float | None]
    run_id: str | None
    own_scores: Mapping[str, float] = field(default_factory=dict)
    by_bank: bool = False
    partial: bool = False

    @property
    def name(self) -> str:
        """The input's name for people."""
        return f"{self.member} in {self.source}" if self.member else self.source

    @property
    def content(self) -> str:
        """What tells its content from others: the hash, or without one its name."""
        return self.sha256 or f"{self.source}\0{self.member or ''}"

    @property
    def outcome(self) -> str:
        """The one kind that it counts under: error, NSFW, review or Safe."""
        if self.error is not None:
            return "error"
        if self.decision == "NSFW":
            return "NSFW"
        return "review" if self.needs_review else "Safe"


def judged_of(record: Mapping[str, Any]) -> JudgedInput:
    """Return what evaluation needs of a full or a compact record."""
    predictions = record.get("per_model_predictions") or {}
    error = record.get("error")
    member = record.get("member")
    source = read_name(record["source"], record.get("source_b64"))
    return JudgedInput(
        source=source,
        member=None if member is None else read_name(member, record.get("member_b64")),
        sha256=record.get("sha256"),
        decision=record.get("final_decision"),
        needs_review=bool(record.get("needs_review")),
        error=error["code"] if error else None,
        unsafe_score=record.get("unsafe_score"),
        category=record.get("ensemble_category"),
        probabilities=(record.get("category_ensemble_probabilities") or {})
        | (record.get("category_scores") or {}),
        matched=frozenset(record.get("matched_categories") or ()),
        members={name: one["category_probabilities"] for name, one in predictions.items()},
        agreement=record.get("model_agreement"),
        kind=record.get("kind"),
        format=record.get("format"),
        width=record.get("width"),
        height=record.get("height"),
        latency_ms=record.get("total_time_ms"),
        compute_ms=_compute_ms(record, predictions),
        peak_s=_peak_s(record.get("segments") or ()),
        facts=(record.get("policy"), record.get("policy_hash"), record.get("threshold")),
        run_id=record.get("run_id"),
        own_scores=record.get("category_scores") or {},
        by_bank=record.get("decided_by") in {"deny", "allow"},
        partial=bool(record.get("models_skipped"))
        or str(record.get("frames_sampling") or "").endswith("until a hit"),
    )


def _compute_ms(record: Mapping[str, Any], predictions: Mapping[str, Any]) -> float | None:
    """Return decoding and forward times together, in milliseconds; None where the record tells neither."""
    forward = record.get("inference_time_ms")
    if forward is None and predictions:
        forward = sum(float(one["inference_time_ms"]) for one in predictions.values())
    return None if forward is None else forward + float(record.get("decode_time_ms") or 0.0)


def _peak_s(segments: Sequence[Mapping[str, Any]]) -> float | None:
    worst = max(segments, key=lambda one: one["peak_unsafe_score"], default=None)
    return None if worst is None else float(worst["peak_time_s"])


def same_facts(judged: Iterable[JudgedInput], name: str) -> Iterator[JudgedInput]:
    """Yield the inputs.

    Raises:
        UsageError: they were judged by different policies or thresholds.
    """
    first: JudgedInput | None = None
    for one in judged:
        first = first or one
        if one.facts != first.facts:
            raise UsageError(
                f"{name} holds records of different policies or thresholds ({_told(first)}; {_told(one)}): "
                "evaluate one at a time"
            )
        yield one


def _told(one: JudgedInput) -> str:
    policy, digest, threshold = one.facts
    return f"{policy} {digest} at {threshold}"


Pairs: TypeAlias = Sequence[LabelledInput[JudgedInput]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers of one judge to one question; arrays of one length.

    Attributes:
        rows: numbers of the labelled inputs.
        positive: by the label.
        flagged: by the judge.
        review: sent to people by the judge.
        failed: could not be judged: neither flagged nor ranked.
        score: 0..1; minus infinity where it failed.
        weight: how many inputs each stands for; None if all count the same.
    """

    rows: NDArray[np.intp]
    positive: Flags
    flagged: Flags
    review: Flags
    failed: Flags
    score: Floats
    weight: Floats | None

    def among(self, chosen: Flags | NDArray[np.intp]) -> Answers:
        """Return the answers on some of the inputs, by flags or by position."""
        return Answers(
            rows=self.rows[chosen],
            positive=self.positive[chosen],
            flagged=self.flagged[chosen],
            review=self.review[chosen],
            failed=self.failed[chosen],
            score=self.score[chosen],
            weight=None if self.weight is None else self.weight[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSet:
    """LabelledInput inputs that were judged by one policy.

    Attributes:
        policy: None where it is not known: then nothing is asked but whether an input is NSFW, and only of
            the ensemble.
        threshold: the unsafe score from which an input is NSFW.
        weighted: whether inputs stand for different numbers of others.
        groups: of near-duplicates: by content, the one that stands for all of its group.
    """

    pairs: Pairs
    policy: Policy | None
    threshold: float | None
    weighted: bool
    groups: Mapping[str, str] = field(default_factory=dict)

    def with_pairs(self, pairs: Pairs) -> LabelledSet:
        """Return the same with other inputs."""
        return replace(self, pairs=pairs)

    def part_of(self, one: JudgedInput, count: int, purpose: str) -> int:
        """Return which of `count` parts an input belongs to, near-duplicates together.

        It depends on contents alone, so that it is the same every time; for another purpose it is another.
        """
        group = self.groups.get(one.content, one.content)
        digest = hashlib.sha256(f"{purpose}\0{group}".encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % count

    @property
    def largest_group(self) -> str:
        """How many inputs the largest group of near-duplicates has, in brackets; empty without groups."""
        counts = Counter(
            self.groups[one.judged.content] for one in self.pairs if one.judged.content in self.groups
        )
        most = max(counts.values(), default=1)
        return f" (the largest group has {most})" if most > 1 else ""

    @property
    def questions(self) -> list[str]:
        """NSFW, and each category that some label names."""
        named = {pair.label.category for pair in self.pairs}
        nsfw = [NSFW] if self.policy is None or self.policy.unsafe else []
        return nsfw + [category for category in self.categories if category in named]

    @property
    def categories(self) -> list[str]:
        """The categories of the policy, from mild to severe."""
        return [category.name for category in self.policy.categories] if self.policy else []

    @property
    def models(self) -> list[str]:
        """The models whose own scores are in the records, in their order."""
        if self.policy is None:
            return []
        return list(dict.fromkeys(name for pair in self.pairs for name in pair.judged.members))

    def answers(self, question: str, judge: str = ENSEMBLE) -> Answers:
        """Return what a judge answered to a question, on the inputs whose labels answer it too.

        A model is not asked about inputs that it did not score (skipped by an early exit).
        """
        rows, found = [], []
        for number, pair in enumerate(self.pairs):
            truth = self.truth(pair.label, question)
            answer = None if truth is None else self._answer(pair.judged, question, judge)
            if answer is not None:
                rows.append(number)
                found.append((truth, *answer))
        positive, score, flagged, review, failed = zip(*found, strict=True) if found else ((),) * 5
        weight = [self.pairs[row].weight for row in rows]
        return Answers(
            rows=np.array(rows, dtype=np.intp),
            positive=np.array(positive, dtype=bool),
            flagged=np.array(flagged, dtype=bool),
            review=np.array(review, dtype=bool),
            failed=np.array(failed, dtype=bool),
            score=np.array(score, dtype=np.float64),
            weight=np.array(weight, dtype=np.float64) if self.weighted else None,
        )

    def truth(self, label: Label, question: str) -> bool | None:
        """Return what a label answers; None if it leaves the question open."""
        if question == NSFW:
            return label.decision == NSFW
        if label.category is not None:
            return label.category == question
        unsafe = self.policy is not None and question in self.policy.unsafe
        return None if unsafe == (label.decision == NSFW) else False

    def _answer(self, one: JudgedInput, question: str, judge: str) -> tuple[float, bool, bool, bool] | None:
        """Return score, flagged, review, failed."""
        if one.error is not None:
            return -np.inf, False, False, True
        if judge == ENSEMBLE:
            if question == NSFW:
                score = one.unsafe_score
                flagged = one.decision == NSFW
            else:
                score = one.probabilities.get(question)
                flagged = one.category == question or question in one.matched
            return None if score is None else (score, flagged, one.needs_review, False)
        if (shares := one.members.get(judge)) is None:
            return None
        if question != NSFW:
            return shares[question], max(shares, key=lambda name: shares[name]) == question, False, False
        unsafe = self.policy.unsafe if self.policy else ()
        score = round(sum(shares[name] for name in unsafe), DIGITS)
        return score, self.threshold is not None and score >= self.threshold, False, False
