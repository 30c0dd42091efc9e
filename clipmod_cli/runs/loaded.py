"""The models of a run, loaded, and all else by which its inputs become records."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from clipmod_cli.assemble import decoding_options
from clipmod_cli.banks.bank import Banks
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.output.compact import record_line
from clipmod_cli.pipeline import EvidenceSink, Options, run, run_key
from clipmod_cli.records import Record, RunFacts, to_record
from clipmod_cli.results import Result
from clipmod_cli.runs.facts import ModelsOfRun, describe_run
from clipmod_cli.settings.definition import Settings
from clipmod_cli.types import Failure, Item


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """What turns items into results and records.

    Attributes:
        facts: the fields that all records of the run share.
    """

    settings: Settings
    ensemble: Ensemble
    criteria: Criteria
    banks: Banks
    options: Options
    facts: RunFacts

    @classmethod
    def of(cls, settings: Settings, ensemble: Ensemble, criteria: Criteria, banks: Banks) -> Self:
        """Return a run of its own `run_id`."""
        options = replace(decoding_options(settings), infer_ahead=True)
        facts = RunFacts(
            policy=criteria.policy.name,
            policy_hash=criteria.policy.hash,
            threshold=criteria.threshold,
            run_key=run_key(ensemble, criteria, options.decode),
            run_id=uuid.uuid4().hex,
        )
        return cls(
            settings=settings,
            ensemble=ensemble,
            criteria=criteria,
            banks=banks,
            options=options,
            facts=facts,
        )

    def describe(self) -> dict[str, Any]:
        """Return the facts of the run's card."""
        models = ModelsOfRun.of(self.ensemble, self.settings)
        return describe_run(self.settings, models, self.criteria, self.facts, self.banks)

    def results(
        self,
        items: Iterable[Item | Failure],
        *,
        stopped: Callable[[], bool] = lambda: False,
        keep: EvidenceSink | None = None,
    ) -> Generator[Result, None, None]:
        """Yield one result for each item, in the items' order; see `pipeline.run`."""
        return run(
            items, self.ensemble, self.criteria, self.options, stopped=stopped, keep=keep, banks=self.banks
        )

    def record(self, result: Result, *, known: bool = False) -> Record:
        """Return the record of a result; `known`: an earlier run has told of it."""
        return to_record(result, self.facts, frames_detail=self.settings.frames_detail, known=known)

    def line(self, record: Record) -> bytes:
        """Return a record as a line, as `--record` has it."""
        return record_line(record, self.settings.record)
