"""One call of `clipmod tune`: reads records and labels, writes the policy, and says what it promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import typer

from clipmod_cli.cli.commands.evaluate.promises import cost, percent, promises, refusal
from clipmod_cli.cli.output_paths import write_document
from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.joining import LabelOptions, join, open_judged
from clipmod_cli.evaluate.samples import same_facts
from clipmod_cli.evaluate.tuning.thresholds import (
    Outcome,
    Target,
    TuningRefused,
    labels_digest,
    share_flagged,
    tune_budget,
    tune_categories,
    tune_sum,
)
from clipmod_cli.evaluate.tuning.tuned_policy import ScoredBy, scored_by, tuned_text
from clipmod_cli.judge.policy.tuning import Promise, Tuning
from clipmod_cli.judge.policy.values import Policy, policy_notes


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneCall:
    """The options of a call.

    Attributes:
        per_category: tune the threshold of each category, not that of the sum.
        per_day: how many inputs come, with a budget.
    """

    records: str
    output: Path
    target: Target
    labels: LabelOptions
    per_category: bool
    per_day: float | None

    def run(self) -> None:
        """Tune, write the policy, and print what it promises.

        Raises:
            UsageError: nothing can be promised; or records, labels or run card do not fit.
            OutputError: the policy cannot be written.
        """
        found = scored_by(self.records)
        if self.target.rate == "flagged":
            self._budget(found)
            return
        options = replace(self.labels, policy=found.policy)
        with open_judged([self.records]) as judged:
            joined = join(self.records, judged, options)
        matches, labelled = joined.matches, replace(joined.labelled, policy=found.base)
        _say(f"{matches.matched} of {matches.labels} labels matched")
        outcomes, unlabelled = (
            tune_categories(labelled, self.target)
            if self.per_category
            else ([tune_sum(labelled, self.target)], list[str]())
        )
        policy = self._write(found, outcomes, labels_digest(labelled.pairs))
        _print([*promises(policy), *cost(labelled, found.policy, policy), *self._end(policy, unlabelled)])

    def _budget(self, found: ScoredBy) -> None:
        with open_judged([self.records]) as records:
            judged = list(same_facts(records, self.records))
        if not judged:
            raise UsageError(f"{self.records} holds no records")
        policy = self._write(found, [tune_budget(judged, found.base, self.target)], None)
        now = share_flagged(judged, policy, policy.thresholds["medium"])
        shown = f"Of these {len(judged):,} inputs it flags {percent(now)}."
        _print([*promises(policy, self.per_day), shown, *self._end(policy, [])])

    def _write(self, found: ScoredBy, outcomes: Sequence[Outcome], labels: str | None) -> Policy:
        refused = [one for one in outcomes if isinstance(one, TuningRefused)]
        if refused:
            raise UsageError("\n".join(refusal(one, self.target, self.per_day) for one in refused))
        tuning = Tuning(
            base_hash=found.base.hash,
            tuned_on=datetime.now(UTC).date(),
            labels=labels,
            models=tuple(found.models),
            promises=tuple(one for one in outcomes if isinstance(one, Promise)),
        )
        write_document(self.output, tuned_text(found.base, tuning).encode())
        return found.base.with_tuning(tuning)

    def _end(self, policy: Policy, unlabelled: Sequence[str]) -> Iterator[str]:
        if unlabelled:
            names = ", ".join(unlabelled)
            yield f"No label names {names}: nothing is promised for them, and the sum still counts."
        yield from (f"Note: {note}." for note in policy_notes(policy) if "has no effect" in note)
        yield "It holds for inputs that come as these did, judged by the same models and weights."
        yield f"Wrote {self.output}; use it with --policy {_as_argument(self.output)}"


def _as_argument(path: Path) -> str:
    return str(path) if path.is_absolute() or len(path.parts) > 1 else f"./{path}"


def _say(text: str) -> None:
    typer.echo(f"clipmod: {text}", err=True)


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(line)
