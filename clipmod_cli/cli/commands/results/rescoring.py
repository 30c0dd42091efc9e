"""One run of `rescore`: stored evidence to records, and what changes against older ones."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipmod_cli.assemble import banks_of, fetcher, freeze_gc, policy_of
from clipmod_cli.banks.bank import Banks
from clipmod_cli.cli.output import Output, open_output
from clipmod_cli.cli.terminal.progress import DownloadBar
from clipmod_cli.cli.terminal.stdout import RealStdout, plain, take_stdout
from clipmod_cli.cli.terminal.summary import command_line, print_summary
from clipmod_cli.errors import ExitCode
from clipmod_cli.evidence.compare import RecordChanges, compare
from clipmod_cli.evidence.folder import EvidenceFolder, open_folder
from clipmod_cli.evidence.policies import compare_policies
from clipmod_cli.evidence.rescore import rescore
from clipmod_cli.evidence.rows import ItemEvidence
from clipmod_cli.evidence.stored_models import stored_models
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.prepare import criteria_of
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.output.compact import record_line
from clipmod_cli.output.jsonl import StreamSink
from clipmod_cli.output.resuming.names import working_directory
from clipmod_cli.output.resuming.resume import RunConditions
from clipmod_cli.pipeline import decided_by, run_key_of
from clipmod_cli.records import RunFacts, to_record
from clipmod_cli.runs.facts import ModelsOfRun, describe_run
from clipmod_cli.runs.tally import Tally
from clipmod_cli.settings.reading import resolve
from clipmod_cli.sources.base import Skipped

if TYPE_CHECKING:
    from clipmod_cli.judge.criteria import Criteria
    from clipmod_cli.judge.policy.values import Policy
    from clipmod_cli.settings.definition import Settings
    from clipmod_cli.settings.reading import Resolved


def rescore_folder(
    resolved: Resolved, folder: Path, against: Path | None, show: int, stdout: RealStdout | None = None
) -> ExitCode:
    """Judge the evidence of a folder, write the records, print what changed, and return the exit code.

    Without an output, `against` has the changes on stdout in place of the records.

    Args:
        resolved: the settings.
        folder: of evidence.
        against: older records.
        show: changed inputs to list.
        stdout: what `take_stdout` gave, if the caller has called it.

    Raises:
        ClipmodError: the evidence, the policy or the output cannot be used.
    """
    settings = replace(resolved.settings, resume="no")
    stored = open_folder(folder)
    banks = Banks.read(banks_of(resolved))
    criteria = _criteria(resolved, stored)
    with nullcontext(stdout) if stdout else take_stdout() as stdout, ExitStack() as stack:
        path = settings.output
        if against is not None and path is None:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="clipmod-"))
            path = str(Path(scratch, "records.jsonl"))
            settings = replace(settings, output=path)
        output = stack.enter_context(open_output(settings, stdout))
        if against is not None and resolved.settings.output is None:
            output.mode = "nothing"
        exit_code = _Rescoring(stored, criteria, output, banks).write()
        if against is not None and output.path is not None:
            is_json = settings.json or not stdout.is_terminal
            print_changes(compare(against, output.path, show=show), stdout, as_json=is_json)
    return exit_code


def compare_policies_on(folder: Path, before: str, after: str, *, show: int, as_json: bool) -> None:
    """Print what would change between two policies at their medium sensitivity.

    Args:
        folder: of evidence.
        before: a built-in policy or a policy file.
        after: likewise.
        show: changed inputs to list.
        as_json: print JSON even on a terminal.

    Raises:
        ClipmodError: the evidence or a policy cannot be used.
    """
    stored = open_folder(folder)
    resolved = resolve({})
    old, new = (
        criteria_of_evidence(stored, policy, resolved.settings, policy.threshold_for("medium", None))
        for policy in (load_policy(before), load_policy(after))
    )
    with take_stdout() as stdout:
        found = compare_policies(stored, old, new, show=show)
        print_changes(found, stdout, as_json=as_json or not stdout.is_terminal)


def _criteria(resolved: Resolved, stored: EvidenceFolder) -> Criteria:
    settings = resolved.settings
    policy = policy_of(resolved)
    return criteria_of_evidence(
        stored, policy, settings, policy.threshold_for(settings.sensitivity, settings.threshold)
    )


def criteria_of_evidence(
    stored: EvidenceFolder, policy: Policy, settings: Settings, threshold: float
) -> Criteria:
    """Return the criteria by which a policy judges stored evidence; may download text towers.

    Raises:
        ClipmodError: the policy does not suit the models, or their text towers are not available.
    """
    hub = Hub.from_environment(offline=settings.offline)
    with DownloadBar(quiet=settings.quiet) as progress:
        return criteria_of(
            stored_models(stored.identity, fetcher(hub, progress)),
            policy,
            threshold=threshold,
            degraded=stored.identity.degraded,
            allow_partial=settings.allow_partial,
        )


class _Rescoring:
    """Writes the records of stored evidence to an open output."""

    def __init__(self, stored: EvidenceFolder, criteria: Criteria, output: Output, banks: Banks) -> None:
        self.stored, self.criteria, self.output, self.banks = stored, criteria, output, banks
        self.tally = Tally()
        identity = stored.identity
        self.models = ModelsOfRun(
            members=[(member, member.weight) for member in identity.members],
            named=[member.spec for member in identity.members],
            degraded=identity.degraded,
            device="",
            dtype=identity.dtype,
            decoding=identity.decoding,
        )
        self.run_key = run_key_of(identity.models, criteria, identity.decoding_key)

    def write(self) -> ExitCode:
        """Write all records and return the exit code."""
        start = time.monotonic()
        settings = self.output.settings
        conditions = RunConditions(directory=working_directory())
        self.output.begin(self.run_key, self.tally, conditions=conditions, sources=None)
        freeze_gc()
        try:
            for _, run in itertools.groupby(self.stored, key=lambda evidence: evidence.directory):
                self._write_run(run)
        except BrokenPipeError:
            return ExitCode.CLOSED_PIPE
        finally:
            self.output.finish()
        self.output.complete()
        self.tally.cached = 0  # nothing was looked up
        if not settings.quiet:
            print_summary(self.tally, Skipped(), time.monotonic() - start, done=0)
        return self.tally.exit_code(settings.fail_on, lambda: False)

    def _write_run(self, run: Iterator[ItemEvidence]) -> None:
        """Write the records of evidence whose sources are relative to the same directory."""
        settings, card = self.output.settings, self.output.card
        first = next(run)
        facts = RunFacts(
            policy=self.criteria.policy.name,
            policy_hash=self.criteria.policy.hash,
            threshold=self.criteria.threshold,
            run_key=self.run_key,
            run_id=uuid.uuid4().hex,
        )
        if card is not None:
            described = describe_run(settings, self.models, self.criteria, facts, self.banks)
            card.begin(described, facts.run_id, command_line(), RunConditions(directory=first.directory))
        max_gap_s = self.stored.identity.max_gap_s
        for result in rescore(itertools.chain([first], run), self.criteria, max_gap_s=max_gap_s):
            record = to_record(decided_by(self.banks, result), facts, frames_detail=settings.frames_detail)
            kinds = self.tally.add(record)
            line = record_line(record, settings.record)
            self.output.write(record, line, result.item.source)
            self.output.show(record, line, kinds)
        self.output.show_rest()
        if card is not None:
            card.end(ExitCode.OK, self.tally.run_counts())


def print_changes(found: RecordChanges, stdout: RealStdout, *, as_json: bool) -> None:
    """Print what changes: as one JSON object, or as lines for people."""
    text = json.dumps(asdict(found), ensure_ascii=False) if as_json else "\n".join(_lines(found))
    StreamSink(stdout.descriptor).write(text.encode(errors="replace") + b"\n")


def _lines(found: RecordChanges) -> list[str]:
    lines = [f"{found.changed:,} of {found.changed + found.same:,} inputs change"]
    lines += [f"  {count:>9,}  {before} -> {after}" for before, after, count in found.counts]
    if found.only_before or found.only_after:
        lines.append(f"  only in the older records: {found.only_before:,}; only here: {found.only_after:,}")
    for change in found.changes:
        name = change.source if change.member is None else f"{change.source}/{change.member}"
        scores = f"{_score(change.score_before)} -> {_score(change.score_after)}"
        lines.append(f"{change.before} -> {change.after}  {scores}  {change.category or '-'}  {plain(name)}")
    return lines


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"
