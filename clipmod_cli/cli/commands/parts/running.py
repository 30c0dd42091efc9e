"""One process of `scan` or `urls` that judges parts: plans or waits for the plan, and commits its shard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

from clipmod_cli.assemble import freeze_gc, policy_of
from clipmod_cli.cli.commands.parts.base import PartsRun
from clipmod_cli.cli.signals import Interrupted, catch_signals
from clipmod_cli.cli.terminal.progress import DownloadBar, counted
from clipmod_cli.cli.terminal.stdout import say, take_stdout
from clipmod_cli.cli.terminal.summary import print_summary, say_how_to_resume
from clipmod_cli.cli.usage.effects import check_models, check_policy, check_values
from clipmod_cli.errors import ExitCode, OutputMismatchError, UsageError
from clipmod_cli.models.specs import parse_models
from clipmod_cli.parts.judge import PartJudge
from clipmod_cli.parts.overview import PartsOverview
from clipmod_cli.parts.planning.listing import Command
from clipmod_cli.parts.planning.making import Planner
from clipmod_cli.parts.planning.shards import join_shards, parts_of, read_shard
from clipmod_cli.parts.run_file import RunFile
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
    parse_models(settings.models)  # a wrong name is known before the inputs are listed
    _check_settings(resolved)
    shard = read_shard(settings.shard, os.environ)
    store = open_part_store(settings.output or "")
    planner = Planner(store, command, named, settings)
    if settings.engine == "ray":
        from clipmod_cli.cli.commands.parts.on_ray import check_ray

        check_ray(resolved)
    with take_stdout(), catch_signals() as stop:
        try:
            before = _plan(planner, resolved)
            run = before if shard is None else join_shards(store, shard)
            if settings.plan_only:
                _say_plan(run, resolved)
                return ExitCode.OK
            if settings.engine == "ray":
                from clipmod_cli.cli.commands.parts.on_ray import judge_on_ray

                return judge_on_ray(resolved, store, planner, stop)
            parts_of(run, shard)  # an index that is none of the tasks ends before models are loaded
            with stop.exiting_with(_exit_now):
                judge = _open_judge(resolved, store)
            freeze_gc()
            with closing(judge):
                return _ShardRun(resolved, store, planner, shard, stop, judge=judge).judge_all()
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
    for name, planned in (("format", run.format), ("part_size", run.part_size)):
        if resolved.origins[name] == "flag" and getattr(settings, name) != planned:
            raise OutputMismatchError(
                f"{settings.output} was planned with {flag_of(name)} {planned}, which stays so. Leave the "
                "option out, or name another output"
            )
    return planner.extend() if settings.extend else run


def _say_plan(run: RunFile, resolved: Resolved) -> None:
    if not resolved.settings.quiet:
        inputs = sum(file.inputs for file in run.generations[0].files)
        planned = f"{counted(inputs, 'input')} planned, {counted(run.parts, 'part')} in all"
        say(f"clipmod: {resolved.settings.output}: {planned}")


def _open_judge(resolved: Resolved, store: PartStore) -> PartJudge:
    check_policy(resolved, policy_of(resolved))
    with DownloadBar(quiet=resolved.settings.quiet) as progress:
        return PartJudge.open(
            resolved, store, progress=progress, chosen=lambda choice: check_models(resolved, choice)
        )


@dataclass(kw_only=True)
class _ShardRun(PartsRun):
    """Parts that this process judges itself."""

    judge: PartJudge
    tally: Tally = field(default_factory=Tally)

    def judge_parts(self, parts: Sequence[int]) -> None:
        """Judge one after the other."""
        self.judge.on_record = self._count
        for number, part in enumerate(parts):
            if self.stop.requested():
                break
            self.progress.parts = f"{number:,} of {len(parts):,} parts"
            result = self.judge.judge(part, stopped=self.stop.requested)
            if result.done is not None:
                self.judged.add(part)

    def print_outcome(self, overview: PartsOverview, seconds: float) -> None:
        """Print the records of this process."""
        if self.tally.total or not overview.run.parts:
            skipped = Skipped(reasons=self.planner.skipped.reasons + self.judge.skipped.reasons)
            print_summary(self.tally, skipped, seconds, done=0)
        parts = overview.run.parts
        done = parts - len(overview.missing)
        # the same names on stdin, or the same folder, may be others by now
        is_over = not self.judged and not overview.missing and not self.resolved.settings.extend
        hint = "; --extend lists the inputs again, and judges what is new or has changed" if is_over else ""
        say(f"clipmod: {counted(len(self.judged), 'part')} judged; {done:,} of {parts:,} are done{hint}")

    def _count(self, record: Record) -> None:
        self.tally.add(record)
        self.progress.advance(self.tally.kinds["nsfw"], self.tally.kinds["error"])
