"""The inputs of `clipmod apply`: outputs and decisions, and what of them is chosen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from clipmod_cli.cli.commands.results.choosing import ChosenRecord, card_of, choose_records
from clipmod_cli.errors import UsageError
from clipmod_cli.output.moves import MoveAction
from clipmod_cli.output.reading.withheld import read_withheld
from clipmod_cli.output.resuming.names import working_directory
from clipmod_cli.output.resuming.resume import RunConditions
from clipmod_cli.records import read_name
from clipmod_cli.review.applying.plan import ChosenInput, LeftReason
from clipmod_cli.review.decisions import (
    DecisionLabel,
    DecisionState,
    ReviewDecision,
    ReviewedFile,
    are_decisions,
    content_key,
    read_decisions,
)

_REFUSALS: Final[dict[DecisionLabel, LeftReason]] = {"minor": "minor", "safe": "decided safe"}
"""Why a file is left that people decided about, whatever the machine had said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRequest:
    """What the user asked for.

    Attributes:
        names: outputs and files of decisions.
        kinds: of records.
        label: of decisions.
        folder: where files go; None to delete them.
    """

    names: Sequence[str]
    kinds: frozenset[str]
    label: DecisionLabel | None
    new: bool
    action: MoveAction
    folder: Path | None
    yes: bool
    as_json: bool


@dataclass
class ApplyInputs:
    """The files of a request, read.

    Attributes:
        outputs: of scans; `-` is stdin.
        decisions: what each file of decisions comes to.
        runs: conditions of the runs that wrote the outputs.
        withheld: what may show a minor, as the decisions and the lists beside the outputs say.
    """

    outputs: list[str] = field(default_factory=list)
    decisions: list[DecisionState] = field(default_factory=list)
    runs: dict[str, RunConditions] = field(default_factory=dict)
    withheld: set[str] = field(default_factory=set)


def read_inputs(request: ApplyRequest) -> ApplyInputs:
    """Return the files of a request, told apart by their content.

    Raises:
        UsageError: one cannot be read, or they do not fit the request.
    """
    inputs = ApplyInputs()
    for name in request.names:
        if name != "-" and are_decisions(Path(name)):
            state = read_decisions(Path(name))
            inputs.decisions.append(state)
            inputs.withheld.update(one.key for one in state.labelled("minor"))
        else:
            inputs.outputs.append(name)
            inputs.runs.update(card_of(name).conditions)
            if name != "-":
                listed = read_withheld(Path(name)).inputs
                inputs.withheld.update(content_key(one.sha256, one.source, one.member) for one in listed)
    if request.label is not None and (request.kinds or request.new):
        raise UsageError("--label is of decisions, and --nsfw, --review, --safe, --error, --new of records")
    if request.label is not None and not inputs.decisions:
        empty = [name for name in inputs.outputs if name != "-" and not Path(name).stat().st_size]
        raise UsageError(
            f"{', '.join(empty)}: no decisions in it yet"
            if empty
            else "--label needs a file of decisions (`clipmod review --decisions`) among RECORDS"
        )
    if request.label is None and not request.kinds:
        raise UsageError("say which files: --nsfw, --review, --safe, --error, or --label with decisions")
    if request.label is None and not inputs.outputs:
        raise UsageError("a file of decisions needs --label unsafe, safe or unsure")
    return inputs


def chosen_inputs(request: ApplyRequest, inputs: ApplyInputs) -> Iterator[ChosenInput]:
    """Yield the inputs that the request is about.

    Raises:
        UsageError: an output cannot be read.
    """
    if request.label is not None:
        for state in inputs.decisions:
            for decision in state.labelled("minor", request.label):
                refusal: LeftReason | None = "minor" if decision.key in inputs.withheld else None
                for file in decision.files:
                    yield _of_decision(decision, file, inputs.runs, refusal)
        return
    labels: dict[str, DecisionLabel] = {}
    for state in inputs.decisions:
        labels.update({key: decision.label for key, decision in state.current.items()})
    labels.update(dict.fromkeys(inputs.withheld, "minor"))
    for name in inputs.outputs:
        for chosen in choose_records(name, request.kinds, new=request.new):
            yield _of_record(chosen, labels)


def _of_record(chosen: ChosenRecord, labels: Mapping[str, DecisionLabel]) -> ChosenInput:
    fields = chosen.fields
    member = None if fields["member"] is None else read_name(fields["member"], fields["member_b64"])
    label = labels.get(content_key(fields["sha256"], chosen.source, member))
    return ChosenInput(
        source=chosen.source,
        directory=chosen.directory,
        folders=chosen.folders,
        member=member,
        sha256=fields["sha256"],
        bytes=fields["bytes"],
        mtime_ns=fields["mtime_ns"],
        reason=_reason_of(fields),
        refusal=_REFUSALS.get(label) if label is not None else None,
    )


def _reason_of(fields: Mapping[str, Any]) -> str:
    """Return why a record was judged as it was: `NSFW, explicit 0.98`, `needs review: coverage`."""
    if fields["error"] is not None:
        return f"error: {fields['error']['code']}"
    score = fields.get("unsafe_score")
    parts = [fields["final_decision"] or "no decision", fields["ensemble_category"]]
    text = ", ".join(filter(None, parts)) + (f" {score:.2f}" if isinstance(score, float) else "")
    reasons = ", ".join(fields["review_reasons"] or ())
    return f"{text}; needs review: {reasons}" if reasons else text


def _of_decision(
    decision: ReviewDecision,
    file: ReviewedFile,
    runs: Mapping[str, RunConditions],
    refusal: LeftReason | None,
) -> ChosenInput:
    run = runs.get(decision.judged.run_id or "")
    source, directory, folders = _name_of(file, run)
    return ChosenInput(
        source=source,
        directory=directory,
        folders=folders,
        member=file.exact_member,
        sha256=decision.sha256,
        bytes=file.bytes,
        mtime_ns=file.mtime_ns,
        reason=", ".join(filter(None, [f"{decision.label} by {decision.who}", decision.category])),
        refusal=refusal,
    )


def _name_of(
    file: ReviewedFile, run: RunConditions | None
) -> tuple[str, str | None, tuple[tuple[str, str], ...]]:
    """Return a source, the folder to which it is relative, and the folders that its run named.

    The second is None if it is no local file.

    Args:
        file: with its absolute path, which alone tells the folder where the run is not known.
        run: that judged it, if its output was named.
    """
    path, source = file.exact_path, file.exact_source
    if path is None:
        return source, None, ()
    if run is not None and _absolute(source, run.directory) == _absolute(path, "/"):
        return source, run.directory, run.folders
    if not source.startswith("/") and path.endswith(f"/{source}"):
        return source, path.removesuffix(f"/{source}") or "/", ()
    return path, working_directory() or "/", ()


def _absolute(path: str, directory: str | None) -> str | None:
    return None if directory is None else os.path.normpath(os.path.join(directory, path))  # noqa: PTH118
