"""Labels and stored evidence → the embeddings that a head is learnt from, in groups of near-duplicates."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.intervals import Flags
from clipmod_cli.evaluate.joining import LabelOptions
from clipmod_cli.evaluate.label_files import read_labels
from clipmod_cli.evaluate.labels import DECISIONS, LabelMeanings, LabelRow, folded, read_label_map
from clipmod_cli.evaluate.matching import LabelledInput, Matches, match
from clipmod_cli.evaluate.samples import LabelledSet
from clipmod_cli.evaluate.stored import near_duplicates
from clipmod_cli.evidence.folder import EvidenceFolder, StoredInput, stored_inputs
from clipmod_cli.evidence.pictures import embeddings_of
from clipmod_cli.judge.policy.reading import CLASS_TEMPLATES, CLASSES
from clipmod_cli.judge.policy.values import Category, Policy

Rows: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]

LEAST_POSITIVES: Final = 30
LEAST_NEGATIVES: Final = 20
MOST_VIEWS: Final = 64
"""Of one input: a film of an hour has thousands, which tell little more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadExamples:
    """Labelled inputs with the embeddings of their views.

    Attributes:
        rows: by text-image model, float64 `(views, d)`: all views, input by input.
        starts: where each input's views begin, `(n,)`, rising from 0.
        positive: whether an input is of the category, `(n,)`.
        group: a number that near-duplicates have in common, `(n,)`.
        counts: of the inputs by the text of their label, most first: is it the category, text, how many.
        open: labels that leave open whether an input is of the category.
        broken: labelled inputs that could not be judged whole.
        digest: SHA-256 of the inputs and whether they are of the category, hexadecimal.
        matches: how the labels were joined with the evidence.
        words: a policy whose prompts are the labels' own names; None where they name no other class.
    """

    category: str
    rows: dict[str, Rows]
    starts: Indices
    positive: Flags
    group: Indices
    counts: Sequence[tuple[bool, str, int]]
    open: int
    broken: int
    digest: str
    matches: Matches[StoredInput]
    words: Policy | None


def read_examples(
    stored: EvidenceFolder, category: str, options: LabelOptions, policy: Policy | None
) -> HeadExamples:
    """Return the labelled inputs of a folder of evidence.

    Args:
        stored: the evidence.
        category: what is to be learnt.
        options: of the labels.
        policy: whose categories are labels; without one, each other label is another class.

    Raises:
        UsageError: there are too few labels, they have weights, or do not fit; no text-image model looked.
        EvidenceError: the evidence is damaged.
    """
    if not any(member.kind == "text-image" for member in stored.identity.members):
        named = ", ".join(member.name for member in stored.identity.members)
        raise UsageError(
            f"{stored.path} has no embeddings ({named}): a head needs the evidence of a text-image model, as "
            "`clipmod scan --models ensemble --evidence EV` stores it"
        )
    rows = read_labels(options.names, column=options.column)
    if any(row.weight is not None for row in rows):
        raise UsageError("the labels have weights, which a head is not learnt by: leave them out")
    label_map = read_label_map(options.label_map) if options.label_map else {}
    meanings = policy or _words(category, rows, label_map)
    _check_category(meanings, category)
    labels = LabelMeanings(meanings, label_map).apply(rows)
    matches = match(labels, stored_inputs(stored), root=options.root)
    matches.check(allow_unmatched=options.allow_unmatched)
    return _examples(stored, category, matches, meanings, given=policy is not None)


def _check_category(policy: Policy, category: str) -> None:
    if category not in {one.name for one in policy.categories}:
        raise UsageError(
            f"the policy {policy.name!r} has no category {category!r}: it has "
            f"{', '.join(one.name for one in policy.categories)}. Add it there, or leave --policy out"
        )


def _words(category: str, rows: Iterable[LabelRow], label_map: dict[str, str | None]) -> Policy:
    """Return a policy with the category and each other class that a label names."""
    mapped = {folded(text) for text in label_map}
    texts = {folded(row.text): row.text for row in rows}
    others = [
        text for key, text in texts.items() if key not in mapped | DECISIONS.keys() | {folded(category)}
    ]
    return Policy(
        name=CLASSES,
        templates=CLASS_TEMPLATES,
        categories=(
            *(Category(name=text, safety="SAFE", prompts=(_word(text),)) for text in others),
            Category(name=category, safety="UNSAFE", prompts=(_word(category),)),
        ),
    )


def _word(text: str) -> str:
    return " ".join(text.replace("_", " ").replace("-", " ").split()) or text


def _examples(
    stored: EvidenceFolder,
    category: str,
    matches: Matches[StoredInput],
    policy: Policy,
    *,
    given: bool,
) -> HeadExamples:
    asked = LabelledSet(pairs=(), policy=policy, threshold=None, weighted=False)
    answered = [(pair, asked.truth(pair.label, category)) for pair in matches.pairs]
    known = [(pair, truth) for pair, truth in answered if truth is not None]
    every = embeddings_of(stored, [pair.judged for pair, _ in known], most=MOST_VIEWS)
    found = [one for one in every if one is not None]
    whole = [pair for pair, one in zip(known, every, strict=True) if one is not None]
    counts = Counter((truth, pair.label.row.text) for pair, truth in whole)
    listed = [(truth, text, count) for (truth, text), count in counts.most_common()]
    positive = np.array([truth for _, truth in whole], dtype=bool)
    check_counts(category, listed)
    views = np.array([len(next(iter(one.values()))) for one in found], dtype=np.intp)
    starts = np.cumsum(views) - views
    rows = {name: np.concatenate([one[name] for one in found]).astype(np.float64) for name in found[0]}
    return HeadExamples(
        category=category,
        rows=rows,
        starts=starts,
        positive=positive,
        group=_groups(rows.values(), starts),
        counts=listed,
        open=len(answered) - len(known),
        broken=len(known) - len(whole),
        digest=_digest(whole),
        matches=matches,
        words=None if given or len(policy.categories) < 2 else policy,
    )


def check_counts(category: str, counts: Sequence[tuple[bool, str, int]]) -> None:
    """Raise UsageError where there are too few labels to learn from, with how many are missing."""
    for wanted, least, named in (
        (True, LEAST_POSITIVES, f"that are {category}"),
        (False, LEAST_NEGATIVES, f"that are not {category}"),
    ):
        count = sum(number for truth, _, number in counts if truth == wanted)
        if count < least:
            texts = ", ".join(f"{text} ({number})" for _, text, number in counts) or "none"
            raise UsageError(
                f"a head needs {least} labelled inputs {named}, and there are {count}: {least - count} more. "
                f"Labels found: {texts}; --label-map maps other names to {category}"
            )


def _groups(rows: Iterable[Rows], starts: Indices) -> Indices:
    """Return a number for each input that near-duplicates have in common, `(n,)`."""
    sums = [np.add.reduceat(one, starts) for one in rows]
    units = [one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in sums]
    joined = np.concatenate(units, axis=1) / np.sqrt(len(units))
    found = near_duplicates({str(n): one for n, one in enumerate(joined.astype(np.float32))})
    return np.array([int(found[str(n)]) for n in range(len(starts))], dtype=np.intp)


def _digest(pairs: Sequence[tuple[LabelledInput[StoredInput], bool]]) -> str:
    lines = sorted(
        f"{pair.judged.sha256 or (pair.judged.source, pair.judged.member)}\t{truth}" for pair, truth in pairs
    )
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
