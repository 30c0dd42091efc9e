"""The course of a command over parts: judge what is missing, retry what failed, print the outcome."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from clipmod_cli.cli.signals import StopRequest
from clipmod_cli.cli.terminal.progress import RunProgress, choose_progress
from clipmod_cli.cli.terminal.stdout import say
from clipmod_cli.cli.terminal.summary import say_how_to_resume
from clipmod_cli.errors import ExitCode, OutputError
from clipmod_cli.parts.commit import list_done, remove_orphans
from clipmod_cli.parts.merge import failed_indices, newest_tally
from clipmod_cli.parts.overview import PartsOverview, read_overview, tally_of
from clipmod_cli.parts.planning.making import Planner
from clipmod_cli.parts.planning.shards import Shard, parts_of
from clipmod_cli.parts.run_file import RunFile, require_run_file
from clipmod_cli.parts.store import PartStore
from clipmod_cli.settings.reading import Resolved


@dataclass
class PartsRun(ABC):
    """The parts that this process is to bring to an end, by judging them or by others that do.

    Attributes:
        judged: numbers of the parts that were judged for this process.
    """

    resolved: Resolved
    store: PartStore
    planner: Planner
    shard: Shard | None
    stop: StopRequest
    judged: set[int] = field(default_factory=set)
    progress: RunProgress = field(default_factory=RunProgress)

    @abstractmethod
    def judge_parts(self, parts: Sequence[int]) -> None:
        """Judge parts that are not done, until the stop request; fill `judged`."""

    @abstractmethod
    def print_outcome(self, overview: PartsOverview, seconds: float) -> None:
        """Print what the records came to; `overview` has the commits of the shard."""

    def fault(self) -> ExitCode:
        """Return the exit code of a fault that left parts; OK without one."""
        return ExitCode.OK

    def judge_all(self) -> ExitCode:
        """Judge the parts that are missing, retry what is to be retried, and return the exit code."""
        settings, start = self.resolved.settings, time.monotonic()
        run = require_run_file(self.store)
        generations = len(run.generations)
        is_retrying = self._is_retrying(run)
        self._judge(run)
        if settings.retry and not is_retrying and not self.stop.requested():
            self._retry(generations)
        shard = set(parts_of(require_run_file(self.store), self.shard))
        overview = read_overview(self.store, shard)
        if not settings.quiet:
            self.print_outcome(overview, time.monotonic() - start)
        if not overview.missing:
            remove_orphans(self.store)
        exit_code = ExitCode.first(self.stop.exit_code, self.fault(), self._exit_code(overview))
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
        missing = [part for part in parts_of(run, self.shard) if part not in committed]
        self.progress = choose_progress(settings.progress, quiet=settings.quiet, done=0)
        self.progress.set_total(sum(run.inputs_of(part) for part in missing))
        self.stop.in_flight = True
        try:
            self.judge_parts(missing)
        except OutputError as error:
            raise OutputError(f"{error}. What is done stays: the same command goes on from there") from error
        finally:
            self.stop.in_flight = False
            self.progress.close()

    def _retry(self, generations: int) -> None:
        missing = read_overview(self.store, ()).missing
        if missing:
            say(
                f"clipmod: nothing is retried while {len(missing):,} parts are missing. Give the same "
                "command when all are done"
            )
            return

        def find() -> set[int]:
            return failed_indices(self.store, read_overview(self.store), self.resolved.settings.retry)

        self._judge(self.planner.retry(find, generations=generations))

    def _exit_code(self, overview: PartsOverview) -> ExitCode:
        """Return the exit code over all parts of the shard that are done, by the newest records."""
        settings, tally = self.resolved.settings, tally_of(overview.done)
        counts_all = self.shard is None or settings.retry  # not in each of many tasks: it reads all parts
        if counts_all and len(overview.run.generations) > 1 and not overview.missing:
            # a retry is divided among the shards again: records of this one may be those of another by now
            tally = newest_tally(self.store, read_overview(self.store))
        return tally.exit_code(settings.fail_on, self.planner.skipped.has_media)
