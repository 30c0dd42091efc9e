"""One call of `clipmod tune`: reads scores and labels, writes the policy, and says what it promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer

from clipmod_cli.assemble import policy_of
from clipmod_cli.cli.commands.evaluate.promises import (
    calibration_lines,
    cost,
    percent,
    promises,
    refusal,
    thinned,
)
from clipmod_cli.cli.commands.results.rescoring import criteria_of_evidence
from clipmod_cli.cli.output_paths import write_document
from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.joining import LabelOptions, evidence_in
from clipmod_cli.evaluate.samples import LabelledSet
from clipmod_cli.evaluate.tuning.inputs import EvidenceInputs, RecordInputs, TuningInputs
from clipmod_cli.evaluate.tuning.platt import calibrate, check_on
from clipmod_cli.evaluate.tuning.thinning import check_drawn, thin
from clipmod_cli.evaluate.tuning.thresholds import (
    Outcome,
    Target,
    TuningRefused,
    check_labelled,
    labels_digest,
    tune_budget,
    tune_categories,
    tune_sum,
)
from clipmod_cli.evaluate.tuning.tuned_policy import scored_by, scored_by_policy, tuned_text
from clipmod_cli.evidence.folder import open_folder
from clipmod_cli.judge.policy.tuning import PlattCalibration, Promise, Tuning
from clipmod_cli.judge.policy.values import Policy, policy_notes
from clipmod_cli.output.reading.files import refuse_parts
from clipmod_cli.settings.reading import Resolved


def inputs_named(name: str, resolved: Resolved) -> TuningInputs:
    """Return the records or the evidence of a name.

    Raises:
        ClipmodError: they do not tell what gave the scores, or the policy does not suit the evidence.
    """
    folder = evidence_in([name])
    refuse_parts(name)
    if folder is None and not Path(name).expanduser().is_file():
        raise UsageError(f"{name} is neither records (.jsonl) nor a folder of `scan --evidence`")
    if folder is None:
        return RecordInputs(name, scored_by(name))
    stored, policy = open_folder(folder), policy_of(resolved)
    found = scored_by_policy(policy, stored.identity)
    threshold = policy.thresholds["medium"]
    return EvidenceInputs(
        stored, criteria_of_evidence(stored, found.base, resolved.settings, threshold), found
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneCall:
    """The options of a call.

    Attributes:
        inputs: what to tune on.
        per_category: tune the threshold of each category, not that of the sum.
        calibrated: calibrate the NSFW score too, on a part of the labels.
        prevalence: the share of positives in use for which it is calibrated; None for that of the labels.
        per_day: how many inputs come, with a budget.
    """

    inputs: TuningInputs
    output: Path
    target: Target
    labels: LabelOptions
    per_category: bool
    calibrated: bool
    prevalence: float | None
    per_day: float | None

    def run(self) -> None:
        """Tune, write the policy, and print what it promises.

        Raises:
            UsageError: nothing can be promised; or records, labels or run card do not fit.
            OutputError: the policy cannot be written.
        """
        if self.target.rate == "flagged":
            self._budget()
            return
        labelled, is_thinned = self._labelled()
        calibration, held = calibrate(labelled, self.prevalence) if self.calibrated else (None, labelled)
        outcomes, unlabelled = (
            tune_categories(held, self.target)
            if self.per_category
            else ([tune_sum(held, self.target)], list[str]())
        )
        policy = self._write(outcomes, labels_digest(labelled.pairs), calibration, is_thinned=is_thinned)
        fit = calibration_lines(calibration, check_on(held, calibration), policy) if calibration else ()
        said = [*promises(policy), *cost(held, self.inputs.scored_by.policy, policy), *fit]
        _print([*said, *self._end(policy, unlabelled, labelled=True)])

    def _labelled(self) -> tuple[LabelledSet, bool]:
        """Return the labelled inputs that all had the same chance, and whether there were others."""
        every, matches = self.inputs.labelled(self.labels)
        for one, disagreeing in matches.conflicting:
            texts = ", ".join(sorted({label.row.text for label in disagreeing}))
            _say(f"the labels of {one.name} disagree ({texts}); it is left out")
        _say(f"{matches.matched} of {matches.labels} labels matched")
        check_drawn(every, matches.unlabelled)
        labelled = thin(every)
        if is_thinned := len(labelled.pairs) < len(every.pairs):
            _say(thinned(labelled, every))
        if largest := labelled.largest_group:
            _say(f"near-duplicates are kept together where labels are split{largest}")
        check_labelled(labelled)
        return labelled, is_thinned

    def _budget(self) -> None:
        scores = self.inputs.sums()
        policy = self._write([tune_budget(scores, self.target)], None, None)
        now = float((scores >= policy.thresholds["medium"]).mean())
        shown = f"Of these {len(scores):,} inputs it flags {percent(now)}."
        _print([*promises(policy, self.per_day), shown, *self._end(policy, [])])

    def _write(
        self,
        outcomes: Sequence[Outcome],
        labels: str | None,
        calibration: PlattCalibration | None,
        *,
        is_thinned: bool = False,
    ) -> Policy:
        refused = [one for one in outcomes if isinstance(one, TuningRefused)]
        if refused:
            told = [
                refusal(one, self.target, self.per_day, calibration, is_thinned=is_thinned) for one in refused
            ]
            raise UsageError("\n".join(told))
        base = self.inputs.scored_by.base
        tuning = Tuning(
            base_hash=base.hash,
            tuned_on=datetime.now(UTC).date(),
            labels=labels,
            models=tuple(self.inputs.scored_by.models),
            promises=tuple(one for one in outcomes if isinstance(one, Promise)),
            calibration=calibration,
        )
        write_document(self.output, tuned_text(base, tuning, self.output.absolute().parent).encode())
        return base.with_tuning(tuning)

    def _end(self, policy: Policy, unlabelled: Sequence[str], *, labelled: bool = False) -> Iterator[str]:
        if unlabelled:
            names = ", ".join(unlabelled)
            yield f"No label names {names}: nothing is promised for them, and the unsafe score still counts."
        yield from (f"Note: {note}." for note in policy_notes(policy) if "has no effect" in note)
        if labelled and (heads := [one.name for one in policy.categories if one.head]):
            names = ", ".join(heads)
            yield f"Note: labels that the head of {names} was learnt on promise nothing: use others."
        yield "It holds for inputs that come as these did, judged by the same models and weights."
        yield f"Wrote {self.output}; use it with --policy {_as_argument(self.output)}"


def _as_argument(path: Path) -> str:
    return str(path) if path.is_absolute() or len(path.parts) > 1 else f"./{path}"


def _say(text: str) -> None:
    typer.echo(f"clipmod: {text}", err=True)


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(line)
