"""`--engine ray`: the driver of a run in parts. It plans, hands out parts, and judges none itself."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipmod_cli.assemble import policy_of
from clipmod_cli.cli.commands.parts.base import PartsRun
from clipmod_cli.cli.commands.parts.parts import overview_lines
from clipmod_cli.cli.signals import StopRequest
from clipmod_cli.cli.terminal.progress import duration
from clipmod_cli.cli.terminal.stdout import say
from clipmod_cli.cli.usage.effects import check_policy
from clipmod_cli.errors import ExitCode, UsageError
from clipmod_cli.parts.engine.actor import flags_of
from clipmod_cli.parts.engine.drive import Driver
from clipmod_cli.parts.engine.hosts import shared_hosts
from clipmod_cli.parts.engine.ray import RayCluster, RayOptions, check_address, ray_cluster, require_ray
from clipmod_cli.parts.heartbeat import mark_lost
from clipmod_cli.parts.merge import newest_tally
from clipmod_cli.parts.overview import PartsOverview, ranges
from clipmod_cli.parts.planning.making import Planner
from clipmod_cli.parts.run_file import require_run_file
from clipmod_cli.parts.schedule import MAX_LOSSES, PartSchedule
from clipmod_cli.parts.store import PartStore
from clipmod_cli.settings.reading import Resolved, actors_of

log = logging.getLogger(__name__)


def check_ray(resolved: Resolved) -> None:
    """Check the settings of the cluster before anything is planned.

    Raises:
        UsageError: the address is one of Ray Client, or an option has no place beside a cluster.
        MissingPackageError: Ray is not installed.
    """
    check_address(resolved.settings.address)
    require_ray()
    if resolved.origins["shard"] == "flag":
        raise UsageError("--shard has no effect beside --engine ray: the actors judge all parts")
    if resolved.origins["header"] == "flag":
        raise UsageError(
            "--header: Ray shows the command line of a driver to all who can see the cluster. Set "
            "CLIPMOD_HEADER on its nodes"
        )


def judge_on_ray(resolved: Resolved, store: PartStore, planner: Planner, stop: StopRequest) -> ExitCode:
    """Let actors judge the missing parts of a run that is planned, and return the exit code.

    Raises:
        ClipmodError: the cluster cannot be reached, or a setting is wrong.
    """
    settings = resolved.settings
    check_policy(resolved, policy_of(resolved))
    minimum, maximum = actors_of(settings.actors, "--actors")
    options = RayOptions(
        address=settings.address,
        minimum=minimum,
        maximum=maximum,
        cpus=settings.cpus_per_actor,
        gpus=settings.gpus_per_actor,
    )
    out = store.name if "://" in store.name else str(Path(store.name).expanduser().absolute())
    with ray_cluster(options, out, flags_of(resolved)) as cluster:
        if not settings.quiet:
            where = "a cluster on this machine" if cluster.is_own else f"{len(cluster.nodes()):,} nodes"
            say(f"clipmod: {where} with room for {cluster.capacity():,} actors of {cluster.actor}")
        return _RayRun(resolved, store, planner, None, stop, options=options, cluster=cluster).judge_all()


@dataclass(kw_only=True)
class _RayRun(PartsRun):
    """Parts that the actors of a cluster judge.

    Attributes:
        faults: the exit codes of what kept nodes from judging.
    """

    options: RayOptions
    cluster: RayCluster
    faults: list[ExitCode] = field(default_factory=list)

    def judge_parts(self, parts: Sequence[int]) -> None:
        """Hand the parts to actors until each is done, or no actor takes them."""
        if not parts:
            return
        least, most = self.options.minimum, self.options.maximum
        run = require_run_file(self.store)
        hosts = shared_hosts(self.store, run, parts) if run.command == "urls" and most != 1 else {}
        schedule = PartSchedule(parts, minimum=least, maximum=most or least, groups=hosts)
        counts = Counter[str]()

        def done(part: int, answer: Mapping[str, Any]) -> None:
            if answer["outcome"] == "committed":
                self.judged.add(part)
            counts.update(answer["counts"])
            self.progress.parts = f"{len(parts) - schedule.left:,} of {len(parts):,} parts"
            self.progress.advance(counts["nsfw"], counts["error"], answer["records"])

        driver = Driver(
            schedule=schedule,
            workers=self.cluster,
            grows=most is None,
            done=done,
            lost=lambda process: mark_lost(self.store, "attempts", process),
            waiting=self._say_waiting,
            stopped=self.stop.requested,
        )
        driver.run()
        self.faults += [ExitCode(fault.exit_code) for fault in driver.faults.values()]
        self._tell_of_left(schedule)

    def print_outcome(self, overview: PartsOverview, seconds: float) -> None:
        """Print the records of the whole run, by the commits, and how fast those of this command came."""
        for line in overview_lines(overview, overview.describe(newest_tally(self.store, overview))):
            say(line)
        records = sum(part.records for part in overview.done if part.part in self.judged)
        parts, rate = len(self.judged), records / seconds if seconds else 0.0
        say(f"clipmod: {parts:,} parts with {records:,} records judged in {duration(seconds)}, {rate:.1f}/s")

    def fault(self) -> ExitCode:
        """Return the exit code of what kept nodes from judging."""
        return ExitCode.first(ExitCode.OK, *self.faults)

    def _tell_of_left(self, schedule: PartSchedule) -> None:
        """Say why parts are left that no stop request has left."""
        if schedule.given_up:
            numbers = ranges(sorted(schedule.given_up))
            log.error("parts %s are left: each took down %d actors in turn", numbers, MAX_LOSSES)
            self.faults.append(ExitCode.USAGE)
        if not schedule.left or self.stop.requested():
            return
        reason = self.cluster.last_loss
        if schedule.lost_in_a_row:
            lost = f"{schedule.lost_in_a_row} actors in a row ended while they judged"
            log.error("%s, and no part was done in between. The last one: %s", lost, reason)
            self.faults.append(ExitCode.USAGE)
        elif reason and not self.faults:
            log.error("no actor could be started: %s", reason)
            self.faults.append(ExitCode.USAGE)
        log.error("%d parts are left. The same command goes on", schedule.left)

    def _say_waiting(self) -> None:
        if not self.resolved.settings.quiet:
            actor, room = self.cluster.actor, self.cluster.capacity()
            with self.progress.hidden():
                say(f"clipmod: no actor is ready yet. Each needs {actor}; there is room for {room:,}")
