"""Runs `clipmod apply`: chooses inputs, plans, and carries the plan out under locks."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from clipmod_cli.cli.commands.applying.inputs import ApplyInputs, ApplyRequest, chosen_inputs, read_inputs
from clipmod_cli.cli.commands.applying.move_report import MoveReport
from clipmod_cli.errors import ExitCode, OutputError, UsageError
from clipmod_cli.output.lock import OutputLock
from clipmod_cli.output.moves import NAME
from clipmod_cli.output.resuming.moved import moved_path, name_manifest
from clipmod_cli.review.applying.carry_out import carry_out, expired, purge
from clipmod_cli.review.applying.folders import IS_SUPPORTED
from clipmod_cli.review.applying.manifest import Manifest
from clipmod_cli.review.applying.plan import MovePlan, is_below, plan_moves


def run_apply(request: ApplyRequest) -> ExitCode:
    """Carry a request out, or say what would be done; return the exit code.

    Raises:
        UsageError: it cannot be carried out as it was made.
        OutputError: a file cannot be written, or another process does the same.
    """
    if not IS_SUPPORTED:
        raise UsageError("clipmod apply needs Linux or macOS; here, use the paths of `clipmod list`")
    inputs = read_inputs(request)
    folder = _folder_of(request, inputs)
    path = folder / NAME
    chosen = chosen_inputs(request, inputs)
    if not request.yes:
        manifest = Manifest.read(path)
        plan = plan_moves(request.action, str(folder), manifest, chosen)
        MoveReport(plan, as_json=request.as_json).show_plan(expired(manifest))
        return ExitCode.OK
    _make_folder(folder)
    outputs = [Path(name) for name in inputs.outputs if name != "-"]
    with ExitStack() as stack:
        stack.enter_context(OutputLock(path))
        for output in outputs:
            stack.enter_context(OutputLock(moved_path(output)))
        manifest = Manifest.read(path)
        plan = plan_moves(request.action, str(folder), manifest, chosen)
        if request.action != "copy" and plan.moves:
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
        if plan.action == "delete":
            report.show_purged(purge(manifest, expired(manifest)))
    finally:
        try:
            report.show_end(manifest.path)
        finally:
            manifest.close()
    return ExitCode.OK if plan.is_all and not report.failed else ExitCode.SOME_FAILED


def _folder_of(request: ApplyRequest, inputs: ApplyInputs) -> Path:
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
        raise UsageError(f"--{request.action} {request.folder} is not a folder")
    if not folder.parent.is_dir():
        raise UsageError(f"--{request.action} {request.folder}: there is no folder {folder.parent}")
    for run in inputs.runs.values():
        for name, real in run.folders:
            if is_below(str(folder), real) or is_below(real, str(folder)):
                raise UsageError(
                    f"--{request.action} {request.folder} and the scanned folder {name} lie in each other: "
                    "a scan would find the files again. Name a folder beside it"
                )
    return folder


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
