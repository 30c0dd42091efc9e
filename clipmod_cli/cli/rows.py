"""Where a run's records go for the statistics: the store, or nowhere."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from clipmod_cli.cli.summary import without_secrets
from clipmod_cli.records import RunFacts
from clipmod_cli.settings import Settings
from clipmod_cli.sinks.spool import RunInfo
from clipmod_cli.sinks.store import Store, default_db_path


class RowSink(Protocol):
    """Takes the records of a run for the statistics."""

    def add(self, record: bytes) -> None:
        """Take one record's line; never fails."""
        ...

    def finish(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Take how the run ended; never fails."""
        ...


class NoStore:
    """Keeps nothing (`--no-db`)."""

    def add(self, record: bytes) -> None:
        """Keep nothing."""

    def finish(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Keep nothing."""


def open_rows(settings: Settings, facts: RunFacts, models: Sequence[str]) -> RowSink:
    """Return where the rows of a run by these models go; never fails."""
    if settings.no_db:
        return NoStore()
    path = Path(settings.db).expanduser() if settings.db else default_db_path()
    info = RunInfo(
        facts=facts,
        command=shlex.join(["clipmod", *without_secrets(sys.argv[1:])]),
        models=tuple(models),
        started_at=datetime.now(UTC),
    )
    return Store(path, retention_days=settings.retention).open_run(info)
