"""One run's rows for the statistics: appended to the spool, and merged into the database by a thread.

Errors of the database, its disk or another process are logged once and never raised: the scan continues.
The rows of a run that ended without `finish` are merged by the next process that opens the database.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

from clipmod_cli.errors import ClipmodError
from clipmod_cli.output.history.rows import HostedRow, RequestRow, RunInfo, hosted_line, request_line
from clipmod_cli.output.history.spool import RowKind, SpoolWriter
from clipmod_cli.output.history.store import HistoryStore, default_db_path
from clipmod_cli.records import RunFacts
from clipmod_cli.settings.definition import Settings

MERGE_AFTER_ROWS: Final = 10_000  # So that the last merge of a fast run takes half a second.
EXIT_LOCK_TIMEOUT_S: Final = 2.0  # A finished scan must exit; the next process merges what is left.

log = logging.getLogger(__name__)


class HistoryRun:
    """Takes the rows of one run, from any thread."""

    def __init__(self, store: HistoryStore, info: RunInfo, *, discard: bool = False) -> None:
        """Open the run's spool, and start the thread that merges it; with `discard` there is neither."""
        self._store = store
        self._run_id = info.facts.run_id
        self._discard = discard
        self._requests = count()
        self._warned = False
        self._lost = 0
        self._writer = None if discard else self._open(info)
        self._unmerged = 0
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep_merging, name="clipmod-history", daemon=True)
        if self._writer is not None:
            # A thread that is killed inside DuckDB at the end of the process changes the exit code.
            atexit.register(self._stop)
            self._thread.start()

    def add(self, record: bytes) -> None:
        """Add one record's line."""
        self._append(record, RowKind.RECORDS)

    def add_request(self, row: RequestRow) -> None:
        """Add one answered request."""
        self._append(request_line(row, self._run_id, next(self._requests)), RowKind.REQUESTS)

    def add_hosted(self, row: HostedRow) -> None:
        """Add one hosted picture."""
        self._append(hosted_line(row, self._run_id, self._store.data_folder), RowKind.HOSTED)

    def flush(self) -> None:
        """Make all rows added so far visible to the next query."""
        if self._writer is not None:
            try:
                self._writer.seal()
            except OSError as error:
                self._warn(error)

    def finish(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Record how the run ended, and merge a last time if the database is not locked."""
        if self._writer is not None:
            self._stop()
            atexit.unregister(self._stop)
            try:
                self._writer.close(counts, exit_code)
                self._store.merge(timeout_s=EXIT_LOCK_TIMEOUT_S)
            except (ClipmodError, OSError) as error:
                self._warn(error)
        if self._lost and not self._discard:
            log.info("%d rows are missing from the statistics in %s", self._lost, self._store.path)

    def _append(self, line: bytes, kind: RowKind) -> None:
        if self._writer is None:
            self._lost += 1
            return
        try:
            self._writer.append(line, kind)
        except OSError as error:
            self._lost += 1
            self._warn(error)
        self._unmerged += 1  # not exact if two threads add at once, which is harmless
        if self._unmerged >= MERGE_AFTER_ROWS:
            self._wake.set()

    def _stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _open(self, info: RunInfo) -> SpoolWriter | None:
        try:
            return SpoolWriter(self._store.spool, info)
        except OSError as error:
            self._warn(error)
            return None

    def _keep_merging(self) -> None:
        import duckdb  # noqa: F401

        # Importing DuckDB registers an exit handler that interrupts all its connections. Exit handlers run
        # last in, first out, so this one, registered after it, lets a running merge finish first.
        atexit.register(self._stop)
        while True:
            self._wake.wait(self._store.merge_every_s)
            self._wake.clear()
            if self._stopping:
                return
            self._unmerged = 0
            self.flush()
            try:
                self._store.merge()
            except (ClipmodError, OSError) as error:
                self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "Cannot write statistics to %s (%s). Scanning continues; "
                "import later with: clipmod stats --rebuild FILE",
                self._store.path,
                error,
            )


def data_folder(settings: Settings) -> Path:
    """Return the folder where `serve` keeps hosted pictures and predictions."""
    return Path(settings.data_dir).expanduser().resolve() if settings.data_dir else default_db_path().parent


def history_store(settings: Settings) -> HistoryStore:
    """Return the statistics database of the settings, also with `--no-db`; no file is touched yet."""
    path = Path(settings.db).expanduser() if settings.db else default_db_path()
    return HistoryStore(path, retention_days=settings.retention, data_folder=data_folder(settings))


def open_rows(settings: Settings, facts: RunFacts, models: Sequence[str], command: str) -> HistoryRun:
    """Return what takes the rows of a run; never fails.

    Args:
        settings: name the database and how long rows are kept.
        facts: what all records of the run share.
        models: their specs.
        command: the command line, without secrets.
    """
    info = RunInfo(facts=facts, command=command, models=tuple(models), started_at=datetime.now(UTC))
    return HistoryRun(history_store(settings), info, discard=settings.no_db)
