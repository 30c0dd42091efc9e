"""Runs `clipmod apply`: chooses inputs, plans, and carries the plan out under locks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from clipmod_cli.cli.commands.applying.move_report import MoveReport
from clipmod_cli.cli.commands.results.choosing import ChosenRecord, card_of, choose_records
from clipmod_cli.errors import ExitCode, OutputError, UsageError
from clipmod_cli.output.lock import OutputLock
from clipmod_cli.output.moves import NAME, Deed
from clipmod_cli.output.resuming.moved import moved_path, name_manifest
from clipmod_cli.output.resuming.names import working_directory
from clipmod_cli.output.resuming.resume import RunConditions
from clipmod_cli.records import read_name
from clipmod_cli.review.applying.carry_out import carry_out, expired, purge
from clipmod_cli.review.applying.folders import IS_SUPPORTED
from clipmod_cli.review.applying.manifest import Manifest
from clipmod_cli.review.applying.plan import ChosenInput, LeftReason, MovePlan, is_below, plan_moves
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
    deed: Deed
    folder: Path | None
    yes: bool
    as_json: bool


@dataclass
class _Inputs:
    """The files of a request, read.

    Attributes:
        outputs: of scans; `-` is stdin.
        decisions: what each file of decisions comes to.
        runs: conditions of the runs that wrote the outputs.
    """

    outputs: list[str] = field(default_factory=list)
    decisions: list[DecisionState] = field(default_factory=list)
    runs: dict[str, RunConditions] = field(default_factory=dict)


def run_apply(request: ApplyRequest) -> ExitCode:
    """Carry a request out, or say what would be done; return the exit code.

    Raises:
        UsageError: it cannot be carried out as it was made.
        OutputError: a file cannot be written, or another process does the same.
    """
    if not IS_SUPPORTED:
        raise UsageError("clipmod apply needs Linux or macOS; here, use the paths of `clipmod list`")
    inputs = _read_inputs(request)
    folder = _folder_of(request, inputs)
    path = folder / NAME
    chosen = _chosen(request, inputs)
    if not request.yes:
        manifest = Manifest.read(path)
        plan = plan_moves(request.deed, str(folder), manifest, chosen)
        MoveReport(plan, as_json=request.as_json).show_plan(expired(manifest))
        return ExitCode.OK
    _make_folder(folder)
    outputs = [Path(name) for name in inputs.outputs if name != "-"]
    with ExitStack() as stack:
        stack.enter_context(OutputLock(path))
        for output in outputs:
            stack.enter_context(OutputLock(moved_path(output)))
        manifest = Manifest.read(path)
        plan = plan_moves(request.deed, str(folder), manifest, chosen)
        if request.deed != "copy" and plan.moves:
            for output in outputs:
                name_manifest(output, path)
        return _carry_out(plan, manifest, as_json=request.as_json)


def _carry_out(plan: MovePlan, manifest: Manifest, *, as_json: bool) -> ExitCode:
    from tqdm import tqdm

    report = MoveReport(plan, as_json=as_json)
    manifest.open()
    try:
        shown = sys.stderr.isatty() and not as_json
        outcomes = carry_out(plan, manifest)
        for outcome in tqdm(
            outcomes, total=len(plan.moves), unit=" files", delay=1, leave=False, disable=not shown
        ):
            report.add(outcome)
        if plan.deed == "delete":
            report.show_purged(purge(manifest, expired(manifest)))
    finally:
        try:
            report.show_end(manifest.path)
        finally:
            manifest.close()
    return ExitCode.OK if plan.is_all and not report.failed else ExitCode.SOME_FAILED


def _read_inputs(request: ApplyRequest) -> _Inputs:
    """Return the files of a request, told apart by their content."""
    inputs = _Inputs()
    for name in request.names:
        if name != "-" and are_decisions(Path(name)):
            inputs.decisions.append(read_decisions(Path(name)))
        else:
            inputs.outputs.append(name)
            inputs.runs.update(card_of(name).conditions)
    if request.label is not None and (request.kinds or request.new):
        raise UsageError("--label is of decisions, and --nsfw, --review, --safe, --error, --new of records")
    if request.label is not None and not inputs.decisions:
        raise UsageError("--label needs a file of decisions (`clipmod review --decisions`) among RECORDS")
    if request.label is None and not request.kinds:
        raise UsageError("say which files: --nsfw, --review, --safe, --error, or --label with decisions")
    if request.label is None and not inputs.outputs:
        raise UsageError("a file of decisions needs --label unsafe, safe or unsure")
    return inputs


def _folder_of(request: ApplyRequest, inputs: _Inputs) -> Path:
    """Return where files go, absolute and without links.

    Raises:
        UsageError: it cannot be a folder, or a scan would find the files there again.
    """
    if request.folder is None:
        first = request.names[0]
        if first == "-":
            raise UsageError("--delete keeps files beside RECORDS, and stdin has no place: use --move DIR")
        return Path(os.path.realpath(Path(first).parent), f".{Path(first).name}.deleted")
    folder = Path(os.path.realpath(request.folder.expanduser()))
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"--{request.deed} {request.folder} is not a folder")
    if not folder.parent.is_dir():
        raise UsageError(f"--{request.deed} {request.folder}: there is no folder {folder.parent}")
    for run in inputs.runs.values():
        for name, real in run.folders:
            if is_below(str(folder), real) or is_below(real, str(folder)):
                raise UsageError(
                    f"--{request.deed} {request.folder} and the scanned folder {name} lie in each other: "
                    "a scan would find the files again. Name a folder beside it"
                )
    return folder


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error


def _chosen(request: ApplyRequest, inputs: _Inputs) -> Iterator[ChosenInput]:
    """Yield the inputs that the request is about."""
    if request.label is not None:
        for state in inputs.decisions:
            for decision in state.labelled("minor", request.label):
                for file in decision.files:
                    yield _of_decision(decision, file, inputs.runs)
        return
    decided: dict[str, DecisionLabel] = {}
    for state in inputs.decisions:
        decided.update({key: decision.label for key, decision in state.current.items()})
    for name in inputs.outputs:
        for chosen in choose_records(name, request.kinds, new=request.new):
            yield _of_record(chosen, decided)


def _of_record(chosen: ChosenRecord, decided: Mapping[str, DecisionLabel]) -> ChosenInput:
    fields = chosen.fields
    member = None if fields["member"] is None else read_name(fields["member"], fields["member_b64"])
    label = decided.get(content_key(fields["sha256"], chosen.source, member))
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
    decision: ReviewDecision, file: ReviewedFile, runs: Mapping[str, RunConditions]
) -> ChosenInput:
    source, directory = _name_of(file)
    run = runs.get(decision.judged.run_id or "")
    is_its_run = run is not None and (run.directory == directory or source.startswith("/"))
    return ChosenInput(
        source=source,
        directory=directory,
        folders=run.folders if run is not None and is_its_run else (),
        member=file.exact_member,
        sha256=decision.sha256,
        bytes=file.bytes,
        mtime_ns=file.mtime_ns,
        reason=", ".join(filter(None, [f"{decision.label} by {decision.who}", decision.category])),
        refusal="minor" if decision.label == "minor" else None,
    )


def _name_of(file: ReviewedFile) -> tuple[str, str | None]:
    """Return a source and the folder to which it is relative; None if it is no local file."""
    path, source = file.exact_path, file.exact_source
    if path is None:
        return source, None
    if not source.startswith("/") and path.endswith(f"/{source}"):
        return source, path.removesuffix(f"/{source}") or "/"
    return source if source.startswith("/") else path, working_directory() or "/"
