"""The state of calibrated early exit as JSON: a run that resumes an output resumes with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from clipmod_cli.judge.exits.audit import Audit
from clipmod_cli.judge.exits.rule import CalibratedExit
from clipmod_cli.judge.exits.sample import ExitRule
from clipmod_cli.judge.exits.stages import Floats

Rows = list[list[float | None]]
"""Scores `(views, stages)`; None is infinite."""


class ExitState(BaseModel):
    """The state of one output's early exit.

    Attributes:
        run_key: of the records that it belongs to.
        sha256: of all else, as JSON, in hexadecimal.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    run_key: str
    stages: tuple[str, ...]
    risk: float
    seed: str
    count: int
    scale: list[Rows]
    flagged: list[Rows]
    costs: dict[str, float]
    highest: dict[str, float] | None
    cost: float
    audit: Audit
    sha256: str = ""

    @classmethod
    def of(cls, exits: CalibratedExit, run_key: str) -> ExitState:
        """Return the state of a run's early exit."""
        sample, rule = exits.sample, exits.rule
        return cls(
            run_key=run_key,
            stages=exits.stages.names,
            risk=exits.risk,
            seed=exits.seed,
            count=sample.count,
            scale=[_to_rows(one) for one in sample.scale],
            flagged=[_to_rows(one) for one in sample.flagged],
            costs=exits.costs,
            highest=None if rule is None else dict(rule.highest),
            cost=1.0 if rule is None else rule.cost,
            audit=exits.audit,
        )

    def fits(self, exits: CalibratedExit, run_key: str) -> bool:
        """Return whether this is the state of such an early exit, and of records with this `run_key`."""
        return (self.run_key, self.stages, self.risk) == (run_key, exits.stages.names, exits.risk)

    def restore(self, exits: CalibratedExit) -> None:
        """Give a run's early exit what an earlier run has learnt."""
        exits.seed, exits.costs, exits.audit = self.seed, self.costs, self.audit
        exits.sample.count = self.count
        exits.sample.scale = [_from_rows(one) for one in self.scale]
        exits.sample.flagged = [_from_rows(one) for one in self.flagged]
        exits.rule = None if self.highest is None else ExitRule(highest=self.highest, cost=self.cost)

    def to_json(self) -> bytes:
        """Return the content of its file."""
        return self.model_copy(update={"sha256": self._digest}).model_dump_json().encode()

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"sha256"}).encode()).hexdigest()


def read_state(text: bytes) -> ExitState | None:
    """Return the state in a file; None if it is not one, or was changed by another program."""
    try:
        state = ExitState.model_validate_json(text)
    except ValidationError:
        return None
    return state if state.sha256 == state._digest else None  # noqa: SLF001 — of this module


def _to_rows(scores: Floats) -> Rows:
    return [[value if np.isfinite(value) else None for value in row] for row in scores.tolist()]


def _from_rows(rows: Sequence[Sequence[float | None]]) -> Floats:
    return np.array([[np.inf if value is None else value for value in row] for row in rows], np.float64)
