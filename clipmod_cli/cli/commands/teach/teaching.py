"""One call of `clipmod tune head`: learns the head, writes it, and says how good it is beside prompts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import typer

from clipmod_cli.assemble import fetcher
from clipmod_cli.cli.output_paths import write_document
from clipmod_cli.cli.terminal.stdout import plain, say
from clipmod_cli.errors import BlindModelError, MissingError
from clipmod_cli.evaluate.heads.examples import HeadExamples, read_examples
from clipmod_cli.evaluate.heads.measuring import (
    ScoredInputs,
    TaughtHeads,
    by_prompts,
    precision_gained,
    precision_of,
    teach,
)
from clipmod_cli.evaluate.intervals import Estimate, Floats
from clipmod_cli.evaluate.joining import LabelOptions
from clipmod_cli.evidence.folder import EvidenceFolder, open_folder
from clipmod_cli.evidence.stored_models import stored_models
from clipmod_cli.judge.policy.heads import HeadFacts, LearntModel, MeasuredArea, head_file
from clipmod_cli.judge.policy.reading import CLASSES, load_policy
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.judge.prepare import criteria_of
from clipmod_cli.models.hub.client import Hub

MOST_NAMED: Final = 6
"""Of the labels that are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompts:
    """What prompts make of the same inputs: their scores and whose they are, or why there are none."""

    scored: ScoredInputs | None = None
    named: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadCall:
    """The options of a call."""

    evidence: Path
    category: str
    output: Path
    policy: str | None
    labels: LabelOptions

    def run(self) -> None:
        """Learn, write the head, and print how good it is.

        Raises:
            UsageError: there are too few labels, or they do not fit.
            EvidenceError: the folder holds no evidence, or is damaged.
            OutputError: the head cannot be written.
        """
        policy = None if self.policy is None else load_policy(self.policy)
        stored = open_folder(self.evidence)
        examples = read_examples(stored, self.category, self.labels, policy)
        for line in _about(examples):
            say(f"clipmod: {line}")
        weights = {member.name: member.weight for member in stored.identity.members}
        taught = teach(examples, weights)
        prompts = _prompts(examples, stored, policy or examples.words)
        write_document(self.output, _file(examples, taught, prompts, stored))
        for line in (*_measured(examples, taught, prompts), *_end(self.output)):
            typer.echo(line)


def _about(examples: HeadExamples) -> Iterator[str]:
    matches = examples.matches
    yield f"{matches.matched} of {matches.labels} labels matched"
    for one, disagreeing in matches.conflicting:
        texts = ", ".join(sorted({plain(label.row.text) for label in disagreeing}))
        yield f"the labels of {plain(one.name)} disagree ({texts}); it is left out"
    if examples.open:
        yield f"{examples.open} labels leave open whether an input is {examples.category}; they are left out"
    if examples.broken:
        yield f"{examples.broken} inputs could not be judged whole; they are left out"
    for wanted, named in ((True, "are"), (False, "are not")):
        counts = [(plain(text), count) for truth, text, count in examples.counts if truth == wanted]
        total = sum(count for _, count in counts)
        texts = ", ".join(f"{text} {count}" for text, count in counts[:MOST_NAMED])
        more = f" and {len(counts) - MOST_NAMED} more labels" if len(counts) > MOST_NAMED else ""
        yield f"{total} inputs {named} {plain(examples.category)}: {texts}{more}"


def _prompts(examples: HeadExamples, stored: EvidenceFolder, policy: Policy | None) -> _Prompts:
    """Return what the prompts of a policy make of the same inputs; downloads nothing for it."""
    if policy is None:
        return _Prompts(missing="the labels name no other class; --policy names one with prompts for it")
    own = next(one for one in policy.categories if one.name == examples.category)
    if not own.prompts:
        return _Prompts(missing=f"{examples.category} has none in the policy {policy.name!r}")
    hub = Hub.from_environment(offline=True)
    models = [one for one in stored_models(stored.identity, fetcher(hub)) if one[0].kind == "text-image"]
    try:
        untuned = replace(policy, tuned=None)
        criteria = criteria_of(models, untuned, threshold=0.5, degraded=False, allow_partial=True)
    except (MissingError, BlindModelError) as e:
        return _Prompts(missing=str(e))
    named = f"of the policy {policy.name} {policy.hash}"
    if policy.name == CLASSES:
        named = "that are the labels' own words"
    return _Prompts(scored=by_prompts(examples, criteria), named=named)


def _file(examples: HeadExamples, taught: TaughtHeads, prompts: _Prompts, stored: EvidenceFolder) -> bytes:
    members = [member for member in stored.identity.members if member.name in taught.heads]
    heads = [taught.heads[member.name] for member in members]
    measured = {name: _area(examples, scores) for name, scores in taught.held_out.by_model.items()}
    facts = HeadFacts(
        category=examples.category,
        learnt_on=datetime.now(UTC).date(),
        models=[
            LearntModel(
                spec=member.spec,
                revision=member.revision,
                c=head.c,
                average_precision=measured[member.name],
            )
            for member, head in zip(members, heads, strict=True)
        ],
        positives=int(examples.positive.sum()),
        negatives=int((~examples.positive).sum()),
        labels_sha256=examples.digest,
        folds=taught.folds,
        average_precision=_area(examples, taught.held_out.together),
        zero_shot=None if prompts.scored is None else _area(examples, prompts.scored.together),
        zero_shot_by=prompts.named or None,
    )
    return head_file(
        facts, [head.weights.astype(np.float32) for head in heads], [head.bias for head in heads]
    )


def _area(examples: HeadExamples, scores: Floats) -> MeasuredArea:
    found = precision_of(examples.positive, scores)
    return MeasuredArea(value=found.value or 0.0, low=found.low, high=found.high)


def _measured(examples: HeadExamples, taught: TaughtHeads, prompts: _Prompts) -> Iterator[str]:
    """Yield the table of average precisions, and which is better."""
    chance = float(examples.positive.mean())
    yield f"Average precision on inputs it was not learnt from ({taught.folds} parts), 95 % intervals;"
    yield f"by chance it would be {chance:.2f}:"
    rows = [("", "head", "prompts" if prompts.scored else "")]
    several = len(taught.heads) > 1
    if several:
        rows.append(_row(examples, "together", taught.held_out.together, prompts.scored))
    for name, scores in taught.held_out.by_model.items():
        rows.append(_row(examples, name, scores, prompts.scored, model=name))
    yield from _aligned(rows)
    if prompts.scored is None:
        yield f"There are no prompts to compare with: {prompts.missing}."
        return
    gained = precision_gained(examples.positive, taught.held_out.together, prompts.scored.together)
    yield _compared(gained, prompts.named)


def _row(
    examples: HeadExamples, shown: str, scores: Floats, prompts: ScoredInputs | None, model: str | None = None
) -> tuple[str, str, str]:
    others = None if prompts is None else prompts.together if model is None else prompts.by_model[model]
    cells = ["" if one is None else _shown(precision_of(examples.positive, one)) for one in (scores, others)]
    return plain(shown), cells[0], cells[1]


def _shown(one: Estimate) -> str:
    interval = "no interval" if one.low is None else f"{one.low:.2f} to {one.high:.2f}"
    return f"{one.value:.2f} ({interval})"


def _aligned(rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    for row in rows:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _compared(gained: Estimate, named: str) -> str:
    value, low, high = gained.value or 0.0, gained.low or 0.0, gained.high or 0.0
    by = f"{abs(value):.2f} ({min(abs(low), abs(high)):.2f} to {max(abs(low), abs(high)):.2f})"
    if low > 0:
        return f"The head is better than the prompts {named}, by {by}."
    if high < 0:
        return f"The head is WORSE than the prompts {named}, by {by}: keep the prompts."
    return (
        f"The head is not better than the prompts {named}: the difference is {value:+.2f} ({low:+.2f} to "
        f"{high:+.2f}). Keep the prompts, or label more."
    )


def _end(output: Path) -> Iterator[str]:
    yield "That is on these labels. In use it is as good only on inputs that come as the labelled ones did."
    named = output if output.is_absolute() else os.path.relpath(output)
    yield f'Wrote {output}. In a policy in this folder: head = "{named}" in place of prompts'
