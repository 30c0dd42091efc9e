"""The DuckDB store: what was judged, when and how, kept as an index over all runs.

It never stands in a scan's way. Records go to the spool (`clipmod_cli.output.history.spool`); a thread
merges them into the file every half minute (`clipmod_cli.output.history.merge`), and whoever finds the
store busy leaves it to the next. What goes wrong is one warning: the records are in the output all
the same, and `clipmod stats --rebuild` reads them from there. Nothing here formats an answer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import platformdirs
from filelock import Timeout

from clipmod_cli.errors import ClipmodError, OutputError, UsageError
from clipmod_cli.output.history import erase, file, merge
from clipmod_cli.output.history.erase import Erased
from clipmod_cli.output.history.hosted_files import EraseFilter
from clipmod_cli.output.history.merge import Added
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.spool import RunInfo, living, lock_file, make_private, run_ids
from clipmod_cli.output.history.stats import collect, collect_serve

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["Added", "Erased", "HistoryRun", "HistoryStore", "QueryResult", "RunInfo", "default_db_path"]

MERGE_EVERY_S: Final = 30.0  # A run that is fast merges before (`store_run.MERGE_AFTER_ROWS`).
PATIENCE_S: Final = 30.0  # How long a person's question waits for a merge or another question to end.
SERVE_PATIENCE_S: Final = 5.0  # Whoever asks a server does not wait as long.

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """What a query answered."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def default_db_path() -> Path:
    """Return where the store is unless somebody says otherwise."""
    return Path(platformdirs.user_data_dir("clipmod", appauthor=False)) / "clipmod.duckdb"


class HistoryStore:
    """One store file, and the spool beside it. Holds nothing open between calls."""

    def __init__(
        self,
        path: Path,
        *,
        retention_days: float | None = None,
        merge_every_s: float = MERGE_EVERY_S,
        data_folder: Path | None = None,
    ) -> None:
        """Name the store; nothing is touched yet.

        Args:
            path: the DuckDB file; it and its folder are made when there is something to keep.
            retention_days: rows older than this go at the next merge; None keeps all.
            merge_every_s: how often a run merges what it has, in seconds.
            data_folder: below it `serve` keeps the files of hosted pictures, which go with their rows.
        """
        self.path = path.resolve()  # a link stays one when the file is written anew
        self.spool = Path(f"{self.path}.spool")
        self.retention_days = retention_days
        self.merge_every_s = merge_every_s
        self.data_folder = data_folder

    def open_run(self, info: RunInfo) -> HistoryRun:
        """Return where a run's records go. Never fails: what is wrong is logged as a warning."""
        return HistoryRun(self, info)

    def merge(self, *, patience_s: float = 0.0) -> bool:
        """Bring in what waits in the spool; return False if the store was busy for too long.

        Raises:
            ClipmodError: the store, or a part of the spool, cannot be used; nothing is lost.
            OSError: likewise.
        """
        if not self.spool.exists() or not (
            run_ids(self.spool) or (self.retention_days and self.path.exists())
        ):
            return True
        try:
            with self._writing(patience_s) as connection:
                problems = self._bring_in(connection)
        except Timeout:
            return False
        merge.raise_problems(problems)
        return True

    def rebuild(self, paths: Sequence[Path]) -> Added:
        """Add the records of JSON Lines outputs that are not in the store; return how many.

        Raises:
            UsageError: a file cannot be read, or the store cannot be used.
            OutputError: the store is busy, or cannot be written.
        """
        for path in paths:
            if not path.is_file() or not os.access(path, os.R_OK):
                raise UsageError(f"{path} is no file that can be read; --rebuild takes the outputs of scans")
        with self._explaining(), self._writing(PATIENCE_S) as connection:
            for problem in self._bring_in(connection):
                log.warning("what waits beside the store cannot be merged: %s", problem)
            return sum((merge.rebuild_from(connection, path) for path in paths), Added())

    def forget(
        self, *, source: str | None = None, sha256: str | None = None, before: datetime | None = None
    ) -> Erased:
        """Erase all of a source, of a content or of before a moment: rows, and hosted files with them.

        Say one of the three. What a living run still holds back is erased as it comes in. The file is
        written anew, so that the erased rows' bytes are gone from it too. Outputs are not touched.

        Raises:
            UsageError: the store cannot be used.
            OutputError: it is busy, or something that waits in the spool cannot be erased, or a file.
        """
        wanted = EraseFilter(source=source, sha256=sha256 and sha256.lower(), before=before)
        folders = set() if self.data_folder is None else {self.data_folder}
        if not self.path.exists() and not self.spool.exists():
            return erase.forget_files(folders, wanted)
        with self._explaining(), self._writing(PATIENCE_S) as connection:
            merge.raise_problems(self._bring_in(connection))
            folders |= erase.data_folders(connection)
            erased = erase.forget(connection, wanted, living(self.spool), folders)
            connection.close()
            file.rewrite(self.path, self.spool)
        return erased

    def query(self, sql: str) -> QueryResult:
        """Return what a query answers; it can neither change the store nor reach any other file.

        Raises:
            UsageError: the query is wrong, or the store cannot be used.
            OutputError: the store is busy.
        """
        import duckdb

        with self._reading(PATIENCE_S) as connection:
            try:
                answer = connection.execute(sql)
                columns = tuple(str(column[0]) for column in answer.description or ())
                return QueryResult(columns=columns, rows=answer.fetchall() if columns else [])
            except duckdb.Error as error:
                raise UsageError(f"the query failed: {error}") from error

    def stats(self) -> dict[str, Any]:
        """Return what the store holds, summed up as `clipmod_cli.output.history.stats.collect` describes.

        Raises:
            UsageError: the store cannot be used.
            OutputError: it is busy.
        """
        return self._summed_up(collect, PATIENCE_S)

    def serve_stats(self, *, patience_s: float = SERVE_PATIENCE_S) -> dict[str, Any]:
        """Return what it holds of `serve`, as `clipmod_cli.output.history.stats.collect_serve` describes.

        A living run's last rows count after its `flush`, or half a minute later.

        Raises:
            UsageError: the store cannot be used.
            OutputError: it has been busy for about so many seconds.
        """
        return self._summed_up(collect_serve, patience_s)

    def _summed_up(
        self, collected: Callable[[DuckDBPyConnection, Path], dict[str, Any]], patience_s: float
    ) -> dict[str, Any]:
        import duckdb

        with self._reading(patience_s) as connection:
            try:
                return collected(connection, self.path)
            except duckdb.Error as error:
                raise file.broken(self.path, error) from error

    @contextmanager
    def _reading(self, patience_s: float) -> Iterator[DuckDBPyConnection]:
        """Enter with a connection that can only read, merging first where that is possible."""
        try:
            self.merge(patience_s=patience_s)
        except (ClipmodError, OSError) as error:
            log.warning("rows that wait beside the store %s are not counted: %s", self.path, error)
        with (
            self._explaining(patience_s),
            self._lock_to_read(patience_s),
            file.open_for_reading(self.path) as connection,
        ):
            yield connection

    @contextmanager
    def _writing(self, patience_s: float) -> Iterator[DuckDBPyConnection]:
        import duckdb

        make_private(self.spool)
        with (
            lock_file(self.spool / ".merge.lock").acquire(timeout=patience_s),
            file.open_for_writing(self.path, self.spool) as connection,
        ):
            try:
                yield connection
            except duckdb.Error as error:
                raise file.broken(self.path, error) from error

    def _lock_to_read(self, patience_s: float) -> AbstractContextManager[object]:
        # Where the spool is missing or not ours to write in, there is nobody here to wait for.
        try:
            if self.spool.exists():
                return lock_file(self.spool / ".merge.lock").acquire(timeout=patience_s)
        except Timeout:
            raise
        except OSError as error:
            log.debug("the store %s is read without a lock: %s", self.path, error)
        return nullcontext()

    @contextmanager
    def _explaining(self, patience_s: float | None = None) -> Iterator[None]:
        try:
            yield
        except Timeout as error:
            raise OutputError(
                f"the store {self.path} has been busy for {patience_s or PATIENCE_S:.0f} s; try again"
            ) from error
        except OSError as error:
            raise OutputError(f"the store {self.path} cannot be reached: {error}") from error

    def _bring_in(self, connection: DuckDBPyConnection) -> list[str]:
        problems = merge.merge_spool(connection, self.spool)
        if self.retention_days is not None:
            try:
                erase.erase_before(connection, datetime.now(UTC) - timedelta(days=self.retention_days))
            except OutputError as error:
                problems.append(f"what is too old stays: {error}")
        return problems
