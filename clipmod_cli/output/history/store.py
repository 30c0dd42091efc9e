"""The statistics of all runs: one DuckDB file, with a spool beside it.

A scan never waits for the database: records are appended to the spool (`clipmod_cli.output.history.spool`),
and a thread merges them every 30 seconds (`clipmod_cli.output.history.merge`). While another process holds
the lock, they stay in the spool until the next merge. Nothing here formats an answer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import platformdirs
from filelock import Timeout

from clipmod_cli.errors import ClipmodError, OutputError, UsageError
from clipmod_cli.output.history import erase, file, merge
from clipmod_cli.output.history.erase import EraseFilter, EraseResult
from clipmod_cli.output.history.merge import RebuildResult
from clipmod_cli.output.history.spool import active_runs, lock_file, make_private, run_ids
from clipmod_cli.output.history.stats import collect, collect_serve

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MERGE_EVERY_S: Final = 30.0  # Or after `run.MERGE_AFTER_ROWS` rows.
LOCK_TIMEOUT_S: Final = 30.0  # For commands: how long a merge or another query may hold the lock.
SERVE_LOCK_TIMEOUT_S: Final = 5.0

log = logging.getLogger(__name__)


def _execute(connection: DuckDBPyConnection, sql: str) -> DuckDBPyConnection:
    """Return `connection.execute(sql)`, which Ctrl-C ends at once.

    In the main thread DuckDB may notice the signal only minutes later.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(connection.execute, sql)
        try:
            return running.result()
        except BaseException:  # whatever a signal raises here
            connection.interrupt()
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """Columns and rows of a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def default_db_path() -> Path:
    """Return where the database is unless --db names another."""
    return Path(platformdirs.user_data_dir("clipmod", appauthor=False)) / "clipmod.duckdb"


class HistoryStore:
    """The statistics database and its spool. Nothing stays open between calls.

    All methods but `merge` raise UsageError if the database cannot be used, and OutputError if it is locked
    for longer than their timeout.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention_days: float | None = None,
        merge_every_s: float = MERGE_EVERY_S,
        data_folder: Path | None = None,
    ) -> None:
        """Set the paths; no file is touched yet.

        Args:
            path: the DuckDB file; it and its folder are created with the first rows.
            retention_days: older rows are deleted at each merge; None keeps all.
            merge_every_s: how often a run merges its rows, in seconds.
            data_folder: where `serve` keeps the files of hosted pictures, which are erased with their rows.
        """
        self.path = path.resolve()  # a link stays a link when the file is rewritten
        self.spool = Path(f"{self.path}.spool")
        self.retention_days = retention_days
        self.merge_every_s = merge_every_s
        self.data_folder = data_folder

    def merge(self, *, timeout_s: float = 0.0) -> bool:
        """Merge the spool into the database; return False if the lock was not free in time.

        Raises:
            ClipmodError: the database, or a part of the spool, cannot be used; nothing is lost.
            OSError: likewise.
        """
        if not self.spool.exists() or not (
            run_ids(self.spool) or (self.retention_days and self.path.exists())
        ):
            return True
        try:
            with self._writing(timeout_s) as connection:
                problems = self._merge_into(connection)
        except Timeout:
            return False
        merge.raise_problems(problems)
        return True

    def rebuild(self, paths: Sequence[Path]) -> RebuildResult:
        """Add the records of JSON Lines outputs that are not in the database; return how many.

        Raises:
            UsageError: a file cannot be read.
        """
        for path in paths:
            if not path.is_file() or not os.access(path, os.R_OK):
                raise UsageError(f"{path} is not a readable file; --rebuild takes the outputs of scans")
        with self._explaining(LOCK_TIMEOUT_S), self._writing(LOCK_TIMEOUT_S) as connection:
            for problem in self._merge_into(connection):
                log.warning("cannot merge the spool beside the statistics database: %s", problem)
            results = [merge.rebuild_from(connection, path) for path in paths]
            return RebuildResult(*map(sum, zip(*results, strict=True)))

    def forget(
        self, *, source: str | None = None, sha256: str | None = None, before: datetime | None = None
    ) -> EraseResult:
        """Erase all rows of a source, of a content, or before a time, and the hosted files with them.

        Give exactly one of the three. Rows that an active run has not sealed yet are erased as they are
        merged. The database is rewritten, so that no bytes of erased rows remain. Outputs are not touched.

        Raises:
            OutputError: a part of the spool or a file cannot be erased.
        """
        chosen = EraseFilter(source=source, sha256=sha256 and sha256.lower(), before=before)
        folders = set() if self.data_folder is None else {self.data_folder}
        if not self.path.exists() and not self.spool.exists():
            return EraseResult(image_ids=erase.remove_chosen(folders, chosen))
        with self._explaining(LOCK_TIMEOUT_S), self._writing(LOCK_TIMEOUT_S) as connection:
            merge.raise_problems(self._merge_into(connection))
            folders |= erase.data_folders(connection)
            erased = erase.erase_all(connection, chosen, active_runs(self.spool), folders)
            connection.close()
            file.rewrite(self.path, self.spool)
        return erased

    def forget_hosted(self, image_ids: Collection[str]) -> None:
        """Erase the rows of hosted pictures whose files are removed; other rows about them stay.

        Unlike `forget`, it does not rewrite the database, which would take too long for a few rows.

        Raises:
            OutputError: a part of the spool cannot be merged.
        """
        if not self.path.exists() and not self.spool.exists():
            return
        with self._explaining(SERVE_LOCK_TIMEOUT_S), self._writing(SERVE_LOCK_TIMEOUT_S) as connection:
            merge.raise_problems(self._merge_into(connection))
            erase.erase_hosted(connection, image_ids, active_runs(self.spool))

    def query(self, sql: str) -> QueryResult:
        """Return the result of a query, which can neither change the database nor reach any other file.

        Raises:
            UsageError: the query is wrong.
        """
        import duckdb

        with self._reading(LOCK_TIMEOUT_S) as connection:
            try:
                answer = _execute(connection, sql)
                columns = tuple(str(column[0]) for column in answer.description or ())
                return QueryResult(columns=columns, rows=answer.fetchall() if columns else [])
            except duckdb.Error as error:
                raise UsageError(f"the query failed: {error}") from error

    def stats(self) -> dict[str, Any]:
        """Return the statistics that `clipmod_cli.output.history.stats.collect` describes."""
        with self._reading(LOCK_TIMEOUT_S) as connection:
            return collect(connection, self.path)

    def serve_stats(self, *, timeout_s: float = SERVE_LOCK_TIMEOUT_S) -> dict[str, Any]:
        """Return the statistics of `serve` that `clipmod_cli.output.history.stats.collect_serve` describes.

        Rows of an active run count after its `flush`, or after the next merge.
        """
        with self._reading(timeout_s) as connection:
            return collect_serve(connection, self.path)

    @contextmanager
    def _reading(self, timeout_s: float) -> Iterator[DuckDBPyConnection]:
        """Enter with a connection that can only read, after a merge where that is possible."""
        try:
            self.merge(timeout_s=timeout_s)
        except (ClipmodError, OSError) as error:
            log.warning("rows in the spool beside %s are not counted: %s", self.path, error)
        with (
            file.translate_errors(self.path),
            self._explaining(timeout_s),
            self._lock_to_read(timeout_s),
            file.open_for_reading(self.path) as connection,
        ):
            yield connection

    @contextmanager
    def _writing(self, timeout_s: float) -> Iterator[DuckDBPyConnection]:
        make_private(self.spool)
        with (
            file.translate_errors(self.path),
            lock_file(self.spool / ".merge.lock").acquire(timeout=timeout_s),
            file.open_for_writing(self.path, self.spool) as connection,
        ):
            yield connection

    def _lock_to_read(self, timeout_s: float) -> AbstractContextManager[object]:
        # Without a spool, or with one that is not writable, no process on this machine can be merging.
        try:
            if self.spool.exists():
                return lock_file(self.spool / ".merge.lock").acquire(timeout=timeout_s)
        except Timeout:
            raise
        except OSError as error:
            log.debug("reading the statistics database %s without a lock: %s", self.path, error)
        return nullcontext()

    @contextmanager
    def _explaining(self, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except Timeout as error:
            raise OutputError(
                f"the statistics database {self.path} has been busy for {timeout_s:.0f} s; try again"
            ) from error
        except OSError as error:
            raise OutputError(f"cannot open the statistics database {self.path}: {error}") from error

    def _merge_into(self, connection: DuckDBPyConnection) -> list[str]:
        problems = merge.merge_spool(connection, self.spool)
        if self.retention_days is not None:
            try:
                erase.erase_before(connection, datetime.now(UTC) - timedelta(days=self.retention_days))
            except OutputError as error:
                problems.append(f"rows older than --retention are kept: {error}")
        return problems
