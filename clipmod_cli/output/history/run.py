"""One run's way into the store: rows go to the spool, and a thread has it merged.

Nothing here raises for what the store, its disk or another process does: a scan goes on whatever
becomes of its rows. A run that ends without `finish`, however it died, is brought in by whoever
comes next.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Final

from clipmod_cli.errors import ClipmodError
from clipmod_cli.output.history.serve_rows import HostedRow, RequestRow, hosted_line, request_line
from clipmod_cli.output.history.spool import RowKind, RunInfo, SpoolWriter
from clipmod_cli.records import Record, to_line

if TYPE_CHECKING:
    from clipmod_cli.output.history.store import HistoryStore

MERGE_AFTER_ROWS: Final = 10_000
# A run that is fast merges more often, beside its own work: what is left for its end takes half a second.
PATIENCE_AT_EXIT_S: Final = 2.0  # A scan that is done should end; whoever comes next merges what it leaves.

log = logging.getLogger(__name__)


class HistoryRun:
    """Takes the rows of one run; safe to call from several threads."""

    def __init__(self, store: HistoryStore, info: RunInfo) -> None:
        """Open the run's spool, and start the thread that merges it."""
        self._store = store
        self._run_id = info.facts.run_id
        self._requests = count()
        self._warned = False
        self._lost = 0
        self._writer = self._open(info)
        self._waiting = 0
        self._over = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep_merging, name="clipmod-store", daemon=True)
        if self._writer is not None:
            self._thread.start()
            # A thread that is cut off inside DuckDB at the end of the process takes the exit code with it.
            atexit.register(self._stop)

    def add(self, record: bytes | Record) -> None:
        """Take one record, or the line that was made of it."""
        self._append(record if isinstance(record, bytes) else to_line(record), RowKind.RECORDS)

    def add_request(self, row: RequestRow) -> None:
        """Take one request that was answered."""
        self._append(request_line(row, self._run_id, next(self._requests)), RowKind.REQUESTS)

    def add_hosted(self, row: HostedRow) -> None:
        """Take one picture that is hosted from now on."""
        self._append(hosted_line(row, self._run_id, self._store.data_folder), RowKind.HOSTED)

    def flush(self) -> None:
        """Let whoever asks the store next find all that was added so far."""
        if self._writer is not None:
            try:
                self._writer.seal()
            except OSError as error:
                self._warn(error)

    def finish(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Write down how the run ended, and merge a last time if the store is free."""
        if self._writer is not None:
            self._stop()
            atexit.unregister(self._stop)
            try:
                self._writer.close(counts, exit_code)
                self._store.merge(patience_s=PATIENCE_AT_EXIT_S)
            except (ClipmodError, OSError) as error:
                self._warn(error)
        if self._lost:
            log.info("%d rows are missing from the store %s", self._lost, self._store.path)

    def _append(self, line: bytes, kind: RowKind) -> None:
        if self._writer is None:
            self._lost += 1
            return
        try:
            self._writer.append(line, kind)
        except OSError as error:
            self._lost += 1
            self._warn(error)
        self._waiting += 1  # two threads may count a row each as one, which does no harm
        if self._waiting >= MERGE_AFTER_ROWS:
            self._wake.set()

    def _stop(self) -> None:
        self._over = True
        self._wake.set()
        self._thread.join()

    def _open(self, info: RunInfo) -> SpoolWriter | None:
        try:
            return SpoolWriter(self._store.spool, info)
        except OSError as error:
            self._warn(error)
            return None

    def _keep_merging(self) -> None:
        while True:
            self._wake.wait(self._store.merge_every_s)
            self._wake.clear()
            if self._over:
                return
            self._waiting = 0
            try:
                self._seal_and_merge()
            except (ClipmodError, OSError) as error:
                self._warn(error)

    def _seal_and_merge(self) -> None:
        if self._writer is not None:
            self._writer.seal()
            self._store.merge()

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "the store %s cannot take all of this run's rows now; the run goes on without. Records that "
                "it writes to an output can be brought in from there: clipmod stats --rebuild FILE. (%s)",
                self._store.path,
                error,
            )
