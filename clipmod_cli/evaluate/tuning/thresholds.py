"""Labelled records to thresholds with promises (`evaluate.tuning.bounds`), for the sum or for each category.

Splits are by the hash of an input's content (`LabelledSet.part_of`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.samples import JudgedInput, LabelledSet, Pairs
from clipmod_cli.evaluate.tuning.bounds import (
    LabelledScores,
    PromisedThreshold,
    Scores,
    Shortfall,
    threshold_for_budget,
    threshold_for_precision,
    threshold_for_recall,
)
from clipmod_cli.judge.policy.tuning import Promise, PromisedRate
from clipmod_cli.judge.policy.values import Policy

PILOT: Final = 5
"""One in so many labelled inputs chooses where the tests of a precision begin."""

Found: TypeAlias = PromisedThreshold | Shortfall


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a threshold is to promise with confidence 1 - `delta`; see `Promise`."""

    rate: PromisedRate
    value: float
    delta: float
    prevalence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRefused:
    """Why the threshold of a category, or with None that of the sum, cannot be promised."""

    category: str | None
    shortfall: Shortfall
    positives: int
    inputs: int


Outcome: TypeAlias = Promise | TuningRefused


def tune_sum(labelled: LabelledSet, target: Target) -> Outcome:
    """Return the threshold of the sum by which the target is promised.

    What a category flags by its own threshold is flagged whatever the sum's is.

    Raises:
        UsageError: the records cannot tell what another threshold would have decided.
    """
    check_labelled(labelled)
    scores = list(sum_scores((pair.judged for pair in labelled.pairs), labelled.policy))
    positives = [pair.label.decision == "NSFW" for pair in labelled.pairs]
    return _tune(labelled, positives, scores, target, None)


def tune_categories(labelled: LabelledSet, target: Target) -> tuple[list[Outcome], list[str]]:
    """Return the outcome for each UNSAFE category that a label names, and the names of the others.

    Each promise is for its own category, and holds by itself.

    Raises:
        UsageError: no label names an UNSAFE category, or the records cannot tell what another threshold would
            have decided.
    """
    check_labelled(labelled)
    if any(not pair.judged.own_scores and pair.judged.error is None for pair in labelled.pairs):
        raise UsageError("--per-category needs full records: compact ones have no scores of categories")
    outcomes, unlabelled = list[Outcome](), list[str]()
    unsafe = labelled.policy.unsafe if labelled.policy else ()
    for name in unsafe:
        truths = [labelled.truth(pair.label, name) for pair in labelled.pairs]
        known = [
            (pair, truth) for pair, truth in zip(labelled.pairs, truths, strict=True) if truth is not None
        ]
        if not any(truth for _, truth in known):
            unlabelled.append(name)
            continue
        among = labelled.with_pairs([pair for pair, _ in known])
        scores = [_own_score(pair.judged, name) for pair in among.pairs]
        outcomes.append(_tune(among, [truth for _, truth in known], scores, target, name))
    if not outcomes:
        raise UsageError(
            f"none of the {len(labelled.pairs):,} labels used names an UNSAFE category "
            f"({', '.join(unsafe)}): to tune them, labels must be categories, not only NSFW and Safe "
            "(--label-map)"
        )
    return outcomes, unlabelled


def tune_budget(scores: Scores, target: Target) -> Outcome:
    """Return the lowest threshold of the sum that flags no larger a share of inputs; no labels are needed.

    Args:
        scores: of all inputs, as `sum_scores` gives them.
        target: the share of flagged inputs.
    """
    return _outcome(threshold_for_budget(scores, target.value, target.delta), target, None, 0, len(scores))


def check_labelled(labelled: LabelledSet) -> None:
    """Raise UsageError where bounds on these labels, which `thin` left, would not hold."""
    if labelled.weighted and len({pair.weight for pair in labelled.pairs}) > 1:
        raise AssertionError("labels of different weights are thinned before they are tuned on")
    for pair in labelled.pairs:
        check_judged(pair.judged, labelled.policy)


def check_judged(one: JudgedInput, policy: Policy | None) -> None:
    """Raise UsageError where a record cannot tell what other thresholds of a policy would have decided."""
    if one.partial:
        raise UsageError(
            f"{one.name} was not judged by all models, or not to its end (--early-exit, --stop-on-hit): "
            "another threshold may have needed them. Scan again without these options"
        )
    if policy is not None:
        check_persistence(one.name, one.kind, policy)


def check_persistence(name: str, kind: str | None, policy: Policy) -> None:
    """Raise UsageError for an input of a kind of which other frames count at another threshold."""
    if policy.persistence_s > 0 and kind in {"video", "animation"}:
        raise UsageError(
            f"{name} is a film, and the policy {policy.name!r} has a persistence_s: which of its frames "
            "count depends on the threshold, so its score does not tell what another one would decide. "
            "Tune on pictures, or without persistence_s"
        )


def sum_scores(judged: Iterable[JudgedInput], policy: Policy | None) -> Iterator[float]:
    """Yield what a threshold of the sum is compared with; +inf for an input that a category flags anyway.

    It is -inf for an input that could not be judged.

    Args:
        judged: the records.
        policy: whose own thresholds of categories count beside that of the sum; None for none.

    Raises:
        UsageError: the records cannot tell what another threshold would have decided.
    """
    for one in judged:
        check_judged(one, policy)
        if policy is not None and policy.category_thresholds and one.error is None and not one.own_scores:
            raise UsageError(
                f"the policy {policy.name!r} has thresholds of categories, and compact records have no "
                "scores of categories. Scan again with full records"
            )
        yield _sum_score(one, policy)


def labels_digest(pairs: Pairs) -> str:
    """Return the SHA-256 of the labels and their inputs, whatever their order, hexadecimal."""
    lines = sorted(
        "\t".join((pair.judged.content, pair.label.decision, pair.label.category or "")) for pair in pairs
    )
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCost:
    """What a policy's thresholds do on labelled inputs, as shares; None where there is nothing to count.

    Attributes:
        flagged: of all of them.
        caught: of those that must be flagged.
        alarms: of the others.
    """

    flagged: float
    caught: float | None
    alarms: float | None


def cost_of(pairs: Pairs, policy: Policy, threshold: float) -> LabelCost:
    """Return what thresholds do on labelled inputs: NSFW is the sum or a category at its own."""
    nsfw = np.array([_is_flagged(pair.judged, policy, threshold) for pair in pairs], dtype=bool)
    positive = np.array([pair.label.decision == "NSFW" for pair in pairs], dtype=bool)
    return LabelCost(
        flagged=float(nsfw.mean()),
        caught=float(nsfw[positive].mean()) if positive.any() else None,
        alarms=float(nsfw[~positive].mean()) if not positive.all() else None,
    )


def _is_flagged(one: JudgedInput, policy: Policy, threshold: float) -> bool:
    return one.unsafe_score is not None and (one.unsafe_score >= threshold or _is_matched(one, policy))


def _is_matched(one: JudgedInput, policy: Policy) -> bool:
    """Return whether a category is at its own threshold."""
    return any(one.own_scores.get(own.name, 0.0) >= own.threshold for own in policy.category_thresholds)


def _sum_score(one: JudgedInput, policy: Policy | None) -> float:
    if one.error is not None or one.unsafe_score is None:
        return -np.inf
    return np.inf if policy is not None and _is_matched(one, policy) else one.unsafe_score


def _own_score(one: JudgedInput, category: str) -> float:
    return -np.inf if one.error is not None else one.own_scores[category]


def _tune(
    labelled: LabelledSet,
    positive: Sequence[bool],
    score: Sequence[float],
    target: Target,
    category: str | None,
) -> Outcome:
    is_positive = np.array(positive, dtype=bool)
    scores = np.array(score, dtype=np.float64)
    if target.rate == "recall":
        found: Found = threshold_for_recall(scores[is_positive], target.value, target.delta)
    else:
        pilot = np.array([labelled.part_of(pair.judged, PILOT, "pilot") == 0 for pair in labelled.pairs])
        parts = [_split(scores[part], is_positive[part]) for part in (pilot, ~pilot)]
        found = threshold_for_precision(
            *parts, precision=target.value, prevalence=target.prevalence or 0.0, delta=target.delta
        )
    return _outcome(found, target, category, int(is_positive.sum()), len(scores))


def _split(scores: Scores, positive: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> LabelledScores:
    return LabelledScores(positives=scores[positive], negatives=scores[~positive])


def _outcome(found: Found, target: Target, category: str | None, positives: int, inputs: int) -> Outcome:
    if isinstance(found, Shortfall):
        return TuningRefused(category=category, shortfall=found, positives=positives, inputs=inputs)
    return Promise(
        threshold=found.threshold,
        rate=target.rate,
        target=target.value,
        delta=target.delta,
        bound=found.bound,
        positives=positives,
        inputs=inputs,
        category=category,
        prevalence=target.prevalence,
    )
