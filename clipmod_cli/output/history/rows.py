"""The sink for a run's statistics rows: the database of the settings, or none with `--no-db`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from clipmod_cli.output.history.serve_rows import HostedRow, RequestRow
from clipmod_cli.output.history.spool import RunInfo
from clipmod_cli.output.history.store import HistoryStore, default_db_path
from clipmod_cli.records import RunFacts
from clipmod_cli.settings.definition import Settings


class RowSink(Protocol):
    """Takes the statistics rows of a run, from any thread. No method raises."""

    def add(self, record: bytes) -> None:
        """Add one record's line."""
        ...

    def add_request(self, row: RequestRow) -> None:
        """Add one answered request."""
        ...

    def add_hosted(self, row: HostedRow) -> None:
        """Add one hosted picture."""
        ...

    def flush(self) -> None:
        """Make all rows added so far visible to the next query."""
        ...

    def finish(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Record how the run ended."""
        ...


class NoHistory:
    """Discards all rows (`--no-db`)."""

    def add(self, record: bytes) -> None:
        """Discard it."""

    def add_request(self, row: RequestRow) -> None:
        """Discard it."""

    def add_hosted(self, row: HostedRow) -> None:
        """Discard it."""

    def flush(self) -> None:
        """Discard it."""

    def finish(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Discard it."""


def data_folder(settings: Settings) -> Path:
    """Return the folder where `serve` keeps hosted pictures and predictions."""
    return Path(settings.data_dir).expanduser().resolve() if settings.data_dir else default_db_path().parent


def history_store(settings: Settings) -> HistoryStore:
    """Return the statistics database of the settings, also with `--no-db`; no file is touched yet."""
    path = Path(settings.db).expanduser() if settings.db else default_db_path()
    return HistoryStore(path, retention_days=settings.retention, data_folder=data_folder(settings))


def store_path(settings: Settings) -> Path | None:
    """Return the file of the statistics database; None with `--no-db`."""
    return None if settings.no_db else history_store(settings).path


def open_rows(settings: Settings, facts: RunFacts, models: Sequence[str], command: str) -> RowSink:
    """Return what takes the rows of a run; never fails.

    Args:
        settings: name the database and how long rows are kept.
        facts: what all records of the run share.
        models: their specs.
        command: the command line, without secrets.
    """
    if settings.no_db:
        return NoHistory()
    info = RunInfo(facts=facts, command=command, models=tuple(models), started_at=datetime.now(UTC))
    return history_store(settings).open_run(info)
