"""Where a run's records go for the statistics: the store, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

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


def store_path(settings: Settings) -> Path | None:
    """Return the store's file; None where no statistics are kept."""
    if settings.no_db:
        return None
    return Path(settings.db).expanduser() if settings.db else default_db_path()


def open_rows(settings: Settings, facts: RunFacts, models: Sequence[str], command: str) -> RowSink:
    """Return where the rows of a run by these models go; never fails.

    Args:
        settings: where the store is, and how long rows stay.
        facts: what all records of the run share.
        models: their specs.
        command: the command line, without secrets.
    """
    path = store_path(settings)
    if path is None:
        return NoStore()
    info = RunInfo(facts=facts, command=command, models=tuple(models), started_at=datetime.now(UTC))
    return Store(path, retention_days=settings.retention).open_run(info)
