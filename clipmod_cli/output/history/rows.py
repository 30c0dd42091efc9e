"""Where a run's rows go for the statistics: the store, or nowhere; and where the store is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from clipmod_cli.output.history.serve_rows import HostedRow, RequestRow
from clipmod_cli.output.history.spool import RunInfo
from clipmod_cli.output.history.store import HistoryStore, default_db_path
from clipmod_cli.records import RunFacts
from clipmod_cli.settings import Settings


class RowSink(Protocol):
    """Takes the rows of a run for the statistics, from any thread."""

    def add(self, record: bytes) -> None:
        """Take one record's line; never fails."""
        ...

    def add_request(self, row: RequestRow) -> None:
        """Take one request that was answered; never fails."""
        ...

    def add_hosted(self, row: HostedRow) -> None:
        """Take one picture that is hosted from now on; never fails."""
        ...

    def flush(self) -> None:
        """Let whoever asks the store next find all that was added so far; never fails."""
        ...

    def finish(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Take how the run ended; never fails."""
        ...


class NoHistory:
    """Keeps nothing (`--no-db`)."""

    def add(self, record: bytes) -> None:
        """Keep nothing."""

    def add_request(self, row: RequestRow) -> None:
        """Keep nothing."""

    def add_hosted(self, row: HostedRow) -> None:
        """Keep nothing."""

    def flush(self) -> None:
        """Keep nothing."""

    def finish(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Keep nothing."""


def data_folder(settings: Settings) -> Path:
    """Return the folder below which `serve` keeps hosted pictures and predictions."""
    return Path(settings.data_dir).expanduser().resolve() if settings.data_dir else default_db_path().parent


def store_path(settings: Settings) -> Path | None:
    """Return the store's file; None where no statistics are kept (`--no-db`)."""
    return None if settings.no_db else kept_store(settings).path


def kept_store(settings: Settings) -> HistoryStore:
    """Return the store that the settings name, whether or not this run keeps rows; nothing is touched yet."""
    path = Path(settings.db).expanduser() if settings.db else default_db_path()
    return HistoryStore(path, retention_days=settings.retention, data_folder=data_folder(settings))


def open_store(settings: Settings) -> HistoryStore | None:
    """Return the store, to ask it; None where no statistics are kept (`--no-db`)."""
    return None if settings.no_db else kept_store(settings)


def open_rows(settings: Settings, facts: RunFacts, models: Sequence[str], command: str) -> RowSink:
    """Return where the rows of a run by these models go; never fails.

    Args:
        settings: where the store is, and how long rows stay.
        facts: what all records of the run share.
        models: their specs.
        command: the command line, without secrets.
    """
    store = open_store(settings)
    if store is None:
        return NoHistory()
    info = RunInfo(facts=facts, command=command, models=tuple(models), started_at=datetime.now(UTC))
    return store.open_run(info)
