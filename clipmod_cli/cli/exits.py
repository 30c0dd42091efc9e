"""Calibrated early exit of one run: its screens, its state beside the output, and what it says of itself."""

from __future__ import annotations

import logging
import shlex
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clipmod_cli.atomic import atomic_file
from clipmod_cli.cli.terminal.stdout import plain
from clipmod_cli.ensemble.ensemble import Ensemble, fingerprint, identity_of
from clipmod_cli.errors import OutputError
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.exits.rule import CalibratedExit
from clipmod_cli.judge.exits.stages import Stages
from clipmod_cli.judge.exits.state import ExitState, read_state
from clipmod_cli.output.resuming.exits import ExitReview
from clipmod_cli.output.resuming.resume import RunConditions
from clipmod_cli.records import Record
from clipmod_cli.settings.definition import Settings

log = logging.getLogger(__name__)

EVERY_S: Final = 2.0
"""Between two writes of the state while it is calibrated."""


def exits_path(output: Path) -> Path:
    """Return where the state of an output's early exit is."""
    return output.with_name(f"{output.name}.early-exit.json")


def exits_key(run_key: str, settings: Settings, ensemble: Ensemble) -> str:
    """Return the `run_key` of records that calibrated early exit has part in."""
    screens = identity_of([(model, 0.0) for model in ensemble.screens], ensemble.dtype)
    return fingerprint(run_key, "early exit", repr(settings.risk), screens)


def open_exits(
    settings: Settings, criteria: Criteria, output: Path | None, run_key: str, *, is_new: bool
) -> RunExits | None:
    """Return the early exit of a run; None without `calibrated`, and where no picture may exit early.

    Raises:
        OutputError: its state cannot be read.
    """
    if settings.early_exit != "calibrated" or output is None:
        return None
    missing = None
    if not criteria.policy.unsafe:
        missing = "no category of the policy is UNSAFE"
    elif not Stages(criteria=criteria).names:
        missing = "one model judges, and there is no screen"
    if missing is not None:
        log.warning("--early-exit calibrated has no effect: %s", missing)
        return None
    return RunExits.open(criteria, settings.risk, output, run_key, is_new=is_new)


def runs_like(own: RunConditions, runs: Mapping[str, RunConditions]) -> frozenset[str]:
    """Return the run_ids of runs with the same sources and working directory as this one."""
    return frozenset(
        run_id for run_id, one in runs.items() if (one.directory, one.folders) == (own.directory, own.folders)
    )


def warn_of_statistics(output: Path) -> None:
    """Tell that records were changed that are in the statistics already."""
    log.warning(
        "the statistics have the records that now need review (early_exit) as they were before; the output "
        "counts: clipmod stats %s",
        shlex.quote(plain(str(output))),
    )


@dataclass
class RunExits:
    """The early exit of a run, and its state in a file."""

    exits: CalibratedExit
    path: Path
    run_key: str
    exited: Counter[str] = field(default_factory=Counter)
    _saved: tuple[bool, int] | None = None
    _saved_at: float = 0.0
    _has_warned: bool = False

    @classmethod
    def open(cls, criteria: Criteria, risk: float, output: Path, run_key: str, *, is_new: bool) -> RunExits:
        """Return the early exit of a run; unless `is_new` it resumes the state of the output.

        A state that cannot be used is reported, and calibration starts again: no exits until then.

        Raises:
            OutputError: its state cannot be read.
        """
        opened = cls(CalibratedExit(Stages(criteria=criteria), risk), exits_path(output), run_key)
        try:
            state = None if is_new else read_state(opened.path.read_bytes())
        except FileNotFoundError:
            state = None
        except OSError as e:
            raise OutputError(f"cannot read {opened.path}: {e.strerror}") from e
        if state is not None and state.fits(opened.exits, run_key):
            state.restore(opened.exits)
        elif state is not None or (not is_new and opened.path.exists()):
            log.warning(
                "%s is not the early-exit state of this output: calibration starts again", opened.path
            )
        opened._has_warned = opened.exits.audit.broken
        return opened

    def before(self, record: Record) -> Record:
        """Return a record as it is to be written; first saves what was learnt until then.

        Raises:
            OutputError: the state cannot be written.
        """
        audit = self.exits.audit
        if self._learnt != self._saved or time.monotonic() - self._saved_at > EVERY_S:
            self.save()
        if audit.broken and not self._has_warned:
            self._has_warned = True
            log.warning(
                "early exit was switched off: %d of %d audited pictures should not have exited early, more "
                "than --risk %g allows. All models are run from here on. Pictures that exited "
                "since the error rate may have changed need review (early_exit)",
                audit.errors, audit.count, self.exits.risk,
            )  # fmt: skip
        if record.decided_at is None or record.final_decision != "Safe":
            return record
        self.exited[record.decided_at] += 1
        return record.model_copy(update={"exit_audit": audit.count})

    @property
    def _learnt(self) -> tuple[bool, int]:
        """What has to be on the disk before a further record: whether there may be a rule, and the audits."""
        return self.exits.calibrating, self.exits.audit.count

    def save(self) -> None:
        """Write the state.

        Raises:
            OutputError: it cannot be written.
        """
        state = ExitState.of(self.exits, self.run_key)
        try:
            with atomic_file(self.path) as file:
                file.write(state.to_json())
        except OSError as e:
            raise OutputError(f"cannot write {self.path}: {e.strerror}") from e
        self._saved, self._saved_at = self._learnt, time.monotonic()

    def review(self, output: Path, review: ExitReview) -> None:
        """Mark what may have exited since the risk was exceeded for review, if it was.

        Args:
            output: closed and still locked.
            review: counts the records.

        Raises:
            OutputError: it cannot be written.
        """
        audit = self.exits.audit
        if audit.broken:
            review.mark(output, audit.doubtful_from())

    def describe(self, judged: int) -> str:
        """Return what it did, for the summary; `judged` is the number of inputs of this run."""
        exits, audit = self.exits, self.exits.audit
        gone = ", ".join(f"{count:,} after {name}" for name, count in self.exited.most_common())
        said = f"{self.exited.total():,} of {judged:,} exited early" + (f" ({gone})" if gone else "")
        if exits.calibrating:
            return (
                f"{said}: {exits.sample.count:,} of the {exits.sample.needed:,} that calibrate it are judged"
            )
        if exits.rule is None:
            return f"{said}: no rule is within --risk {exits.risk:g}"
        low, high = audit.interval()
        rates = (
            f"between {low:.2%} and {high:.2%}, at most {exits.risk:.3g} allowed"
            if audit.count
            else "none yet"
        )
        checked = f"all models checked {audit.count:,}: {audit.errors:,} should not have exited early"
        return f"{said}; {checked} ({rates})" + ("; switched off" if audit.broken else "")
