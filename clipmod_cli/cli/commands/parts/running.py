"""One process of `scan` or `urls` that judges parts: plans or waits for the plan, and commits its share."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from clipmod_cli.assemble import freeze_gc, policy_of
from clipmod_cli.cli.signals import Interrupted, StopRequest, catch_signals
from clipmod_cli.cli.terminal.progress import DownloadBar, RunProgress, choose_progress
from clipmod_cli.cli.terminal.stdout import say, take_stdout
from clipmod_cli.cli.terminal.summary import print_summary, say_how_to_resume
from clipmod_cli.cli.usage.effects import check_models, check_policy, check_values
from clipmod_cli.errors import ExitCode, UsageError
from clipmod_cli.parts.commit import DonePart, list_done, read_done, remove_orphans
from clipmod_cli.parts.judge import PartJudge
from clipmod_cli.parts.merge import failed_indices
from clipmod_cli.parts.overview import read_overview
from clipmod_cli.parts.planning.listing import Command
from clipmod_cli.parts.planning.making import Planner
from clipmod_cli.parts.planning.shards import Shard, join_shards, parts_of, read_shard
from clipmod_cli.parts.run_file import RunFile, require_run_file
from clipmod_cli.parts.store import PartStore, open_part_store
from clipmod_cli.records import Record
from clipmod_cli.runs.tally import Tally
from clipmod_cli.settings.definition import flag_of
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.sources.base import Skipped

OF_ONE_OUTPUT = ("evidence", "errors_to", "only", "json", "prune", "overwrite", "resume", "db")
"""Settings of a run with one output, in one process."""


def run_parts(resolved: Resolved, named: Sequence[str], command: Command) -> ExitCode:
    """Plan and judge in parts, as the settings say, and return the exit code.

    Args:
        resolved: the settings; `output` names the store.
        named: the sources or lists.
        command: which lists them.

    Raises:
        ClipmodError: the run cannot start or go on.
    """
    settings = resolved.settings
    check_values(settings)
    _check_settings(resolved)
    shard = read_shard(settings.shard, os.environ)
    store = open_part_store(settings.output or "")
    planner = Planner(store, command, named, settings)
    with take_stdout(), catch_signals() as stop:
        try:
            before = _plan(planner, resolved)
            run = before if shard is None else join_shards(store, shard)
            if settings.plan_only:
                _say_plan(run, resolved)
                return ExitCode.OK
            parts_of(run, shard)  # an index that is none of the tasks ends before models are loaded
            with stop.exiting_with(_exit_now):
                judge = _open_judge(resolved, store)
            freeze_gc()
            with closing(judge):
                return _Share(resolved, store, planner, judge, shard, stop).judge_all()
        except Interrupted as e:
            say_how_to_resume(settings, e.exit_code)
            return e.exit_code


def _exit_now(exit_code: ExitCode) -> None:
    say(f"clipmod: stopped ({exit_code}) before anything was judged")
    os._exit(exit_code)


def _check_settings(resolved: Resolved) -> None:
    """Raise UsageError for settings that parts do not have."""
    settings = resolved.settings
    for name in OF_ONE_OUTPUT:
        if resolved.origins[name] == "flag" or (name == "evidence" and settings.evidence is not None):
            raise UsageError(f"{flag_of(name)} has no effect with parts. Give -o FILE.jsonl, or leave it out")
    if settings.early_exit == "calibrated":
        raise UsageError("--early-exit calibrated learns from one output and has no effect with parts")
    if "new-nsfw" in settings.fail_on:
        raise UsageError("--fail-on new-nsfw has no effect with parts: --fail-on nsfw counts all of them")
    if settings.part_size < 1:
        raise UsageError(f"--part-size must be at least 1, not {settings.part_size}")


def _plan(planner: Planner, resolved: Resolved) -> RunFile:
    settings = resolved.settings

    def waiting() -> None:
        if not settings.quiet:
            say(f"clipmod: waiting for the plan of {settings.output}: another process lists the inputs")

    run = planner.plan(waiting=waiting)
    return planner.extend() if settings.extend else run


def _say_plan(run: RunFile, resolved: Resolved) -> None:
    if not resolved.settings.quiet:
        inputs = sum(file.inputs for file in run.generations[0].files)
        say(f"clipmod: {resolved.settings.output}: {inputs:,} inputs planned, {run.parts:,} parts in all")


def _open_judge(resolved: Resolved, store: PartStore) -> PartJudge:
    check_policy(resolved, policy_of(resolved))
    with DownloadBar(quiet=resolved.settings.quiet) as progress:
        return PartJudge.open(
            resolved, store, progress=progress, chosen=lambda choice: check_models(resolved, choice)
        )


@dataclass
class _Share:
    """The parts of one process."""

    resolved: Resolved
    store: PartStore
    planner: Planner
    judge: PartJudge
    shard: Shard | None
    stop: StopRequest
    tally: Tally = field(default_factory=Tally)
    done: dict[int, DonePart] = field(default_factory=dict)
    progress: RunProgress = field(default_factory=RunProgress)

    def judge_all(self) -> ExitCode:
        """Judge the parts that are missing, retry what is to be retried, and return the exit code."""
        settings, start = self.resolved.settings, time.monotonic()
        run = self.judge.run
        generations = len(run.generations)
        is_retrying = self._is_retrying(run)
        self.judge.on_record = self._count
        self._judge(run)
        if settings.retry and not is_retrying and not self.stop.requested():
            self._retry(generations)
        known = len(self.done)
        if not settings.quiet:
            skipped = Skipped(reasons=self.planner.skipped.reasons + self.judge.skipped.reasons)
            print_summary(self.tally, skipped, time.monotonic() - start, done=0)
            self._say_parts(known)
        exit_code = ExitCode.first(self.stop.exit_code, self._exit_code())
        say_how_to_resume(settings, exit_code)
        return exit_code

    def _is_retrying(self, run: RunFile) -> bool:
        """Return whether parts of a retry are missing: another process has planned it, this one joins."""
        last = run.generations[-1]
        done = set(list_done(self.store))
        return last.kind == "retry" and not done.issuperset(
            range(last.first_part, last.first_part + last.parts)
        )

    def _judge(self, run: RunFile) -> None:
        settings = self.resolved.settings
        committed = set(list_done(self.store))
        parts = parts_of(run, self.shard)
        self.progress = choose_progress(settings.progress, quiet=settings.quiet, done=0)
        self.stop.in_flight = True
        try:
            for part in parts:
                if self.stop.requested():
                    break
                if part in committed:
                    continue
                result = self.judge.judge(part, stopped=self.stop.requested)
                if result.done is not None:
                    self.done[part] = result.done
        finally:
            self.stop.in_flight = False
            self.progress.close()

    def _retry(self, generations: int) -> None:
        overview = read_overview(self.store)
        if overview.missing:
            say(
                f"clipmod: nothing is retried while {len(overview.missing):,} parts are missing. Give the "
                "same command when all are done"
            )
            return

        def find(_: RunFile) -> set[int]:
            return failed_indices(self.store, read_overview(self.store), self.resolved.settings.retry)

        self._judge(self.planner.retry(find, generations=generations))

    def _count(self, record: Record) -> None:
        self.tally.add(record)
        self.progress.advance(self.tally.kinds["nsfw"], self.tally.kinds["error"])

    def _exit_code(self) -> ExitCode:
        """Return the exit code over all parts of this share that are done."""
        run = require_run_file(self.store)
        done = [self.done.get(part) or read_done(self.store, part) for part in parts_of(run, self.shard)]
        tally = _tally_of(part for part in done if part is not None)
        return tally.exit_code(self.resolved.settings.fail_on, self.planner.skipped.has_media)

    def _say_parts(self, judged: int) -> None:
        overview = read_overview(self.store)
        say(f"clipmod: {judged:,} parts judged; {len(overview.done):,} of {overview.run.parts:,} are done")
        if not overview.missing:
            remove_orphans(self.store)


def _tally_of(parts: Iterable[DonePart]) -> Tally:
    tally = Tally()
    for part in parts:
        tally.kinds.update(part.counts)
        tally.codes.update(part.codes)
        tally.total += part.records
        tally.ok += part.records - part.counts.get("error", 0)
    tally.kinds = +Counter(tally.kinds)
    return tally
