"""One run's rows for the statistics: appended to a file of its own, which a thread seals from time to time.

Errors of the disk or of another process are logged once and never raised: the scan continues. The rows of a
run that ended without `finish` are sealed by the next process that uses the statistics.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

from clipmod_cli.errors import ClipmodError
from clipmod_cli.output.history.rows import RequestRow, RunInfo, record_line, request_line
from clipmod_cli.output.history.store import HistoryStore, default_db_path
from clipmod_cli.output.history.writer import RunWriter
from clipmod_cli.records import RunFacts
from clipmod_cli.settings.definition import Settings

SEAL_ROWS: Final = 100_000
SEAL_S: Final = 86_400.0
"""A journal is sealed when it has so many rows, or is so old."""

TICK_S: Final = 15.0
"""How often that is asked, and whether rows of the journal were erased: then it is sealed too."""

FIRST_TICK_S: Final = 1.0
"""Until the catalogue has a new run; one that is shorter does all at its end."""

MAINTAIN_S: Final = 3600.0
"""How often the files are maintained while nothing is to be sealed: old rows, runs that were killed."""

EXIT_LOCK_TIMEOUT_S: Final = 2.0  # A finished scan must exit; the next process seals what is left.

log = logging.getLogger(__name__)


class HistoryRun:
    """Takes the rows of one run, from any thread."""

    def __init__(
        self, store: HistoryStore, info: RunInfo, *, discard: bool = False, tick_s: float = TICK_S
    ) -> None:
        """Open the run's file, and start the thread that seals it; with `discard` there is neither."""
        self._store = store
        self._info = info
        self._discard = discard
        self._tick_s = tick_s
        self._requests = count()
        self._warned = False
        self._lost = 0
        self._begun = self._maintained = store.clock()
        self._listed = False  # in the catalogue
        self._writer = None if discard else self._open()
        self._stopping = False
        self._ticking = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep_sealing, name="clipmod-history", daemon=True)
        if self._writer is not None:
            # A thread that is killed inside DuckDB at the end of the process changes the exit code.
            atexit.register(self._stop)
            self._thread.start()

    def add(self, record: bytes) -> None:
        """Add one record's line."""
        self._append(record_line(record, self._now_us()))

    def add_request(self, row: RequestRow) -> None:
        """Add one answered request."""
        number = next(self._requests)
        self._append(request_line(row, self._info.facts.run_id, number, self._now_us()))

    def check(self) -> None:
        """Try whether a row can be added.

        Raises:
            OSError: it cannot.
        """
        if self._writer is None:
            raise OSError(f"cannot write to {self._store.folder}")
        self._writer.check()

    def tick(self) -> None:
        """Seal the open journal if it is time for that, and maintain the files."""
        if self._writer is None:
            return
        with self._ticking:
            self._tick(self._writer)

    def finish(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Record how the run ended, and seal its rows if no other process holds the lock."""
        if self._writer is not None:
            self._stop()
            atexit.unregister(self._stop)
            ended = replace(
                self._info,
                finished_at=datetime.fromtimestamp(self._store.clock(), UTC),
                ended="finished",
                exit_code=exit_code,
                counts=dict(counts),
            )
            try:
                self._writer.close(ended)
                self._store.maintain(timeout_s=EXIT_LOCK_TIMEOUT_S, few=False)
            except (ClipmodError, OSError) as error:
                self._warn(error)
        if self._lost and not self._discard:
            log.info("%d rows are missing from the statistics in %s", self._lost, self._store.path)

    def _tick(self, writer: RunWriter) -> None:
        now = self._store.clock()
        try:
            erased, named = self._store.must_seal(writer.journal, self._info.facts.run_id)
            if named:
                writer.hide_command()
            if erased or writer.rows >= SEAL_ROWS or now - self._begun >= SEAL_S:
                writer.roll()
                self._begun, self._maintained = now, 0.0
            if now - self._maintained >= MAINTAIN_S:
                if self._store.maintain():
                    self._maintained, self._listed = now, True
            elif not self._listed:
                self._listed = self._store.maintain(few=False)
        except (ClipmodError, OSError) as error:
            self._warn(error)

    def _now_us(self) -> int:
        return int(self._store.clock() * 1e6)

    def _append(self, line: bytes) -> None:
        if self._writer is None:
            self._lost += 1
            return
        try:
            self._writer.append(line)
        except OSError as error:
            self._lost += 1
            self._warn(error)
        if self._writer.rows >= SEAL_ROWS:
            self._wake.set()

    def _stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _open(self) -> RunWriter | None:
        try:
            return RunWriter(self._store.folder, self._info)
        except OSError as error:
            self._warn(error)
            return None

    def _keep_sealing(self) -> None:
        if self._wake.wait(min(FIRST_TICK_S, self._tick_s)) and self._stopping:
            return
        import duckdb  # noqa: F401

        # Importing DuckDB registers an exit handler that interrupts all its connections. Exit handlers run
        # last in, first out, so this one, registered after it, lets DuckDB finish first.
        atexit.register(self._stop)
        while not self._stopping:
            self.tick()
            self._wake.wait(self._tick_s)
            self._wake.clear()

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
