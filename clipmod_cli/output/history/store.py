"""The statistics of all runs: files beside a DuckDB file of this name, which is a catalogue of them.

A run appends its rows to a file of its own (`clipmod_cli.output.history.run`), and one process at a time
seals, merges and erases files (`clipmod_cli.output.history.keeper`). A query reads what counts at its
beginning, needs no lock and keeps nothing open. Nothing here formats an answer.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import platformdirs
from filelock import Timeout

from clipmod_cli.errors import ClipmodError, OutputError, UsageError
from clipmod_cli.output.database import INTERRUPTED, connect, first_line
from clipmod_cli.output.history.catalogue import read, select, write_catalogue
from clipmod_cli.output.history.folder import load_inventory, lock_file, make_private, take_snapshot
from clipmod_cli.output.history.hosted_files import EraseFilter, EraseResult, remove_chosen
from clipmod_cli.output.history.keeper import Keeper
from clipmod_cli.output.history.rebuild import RebuildResult, rebuild_from
from clipmod_cli.output.history.stats import collect, collect_serve
from clipmod_cli.output.history.views import parquet

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LOCK_TIMEOUT_S: Final = 30.0  # For commands that change something: how long another may hold the lock.
DAY_S: Final = 86_400.0

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """Columns and rows of a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def default_db_path() -> Path:
    """Return where the database is unless --db names another."""
    return Path(platformdirs.user_data_dir("clipmod", appauthor=False)) / "clipmod.duckdb"


class HistoryStore:
    """The statistics. Nothing stays open between calls.

    All methods raise UsageError if the DuckDB file of its name is something else, and OutputError if the
    files cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention_days: float | None = None,
        data_folder: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Set the paths; no file is touched yet.

        Args:
            path: the DuckDB file; it and its folder are created with the first rows.
            retention_days: rows of earlier days (UTC) are deleted; None keeps all.
            data_folder: where `serve` keeps hosted pictures, which are the table `hosted`.
            clock: seconds since 1970.
        """
        self.path = path.resolve()  # a link stays a link when the file is rewritten
        self.folder = Path(f"{self.path}.runs")
        self.retention_days = retention_days
        self.data_folder = data_folder
        self.clock = clock

    @property
    def exists(self) -> bool:
        """Whether there are any files."""
        return self.path.exists() or self.folder.exists()

    def maintain(self, *, timeout_s: float = 0.0, few: bool = True) -> bool:
        """Seal what ended runs left, merge small files, delete old rows, and write the catalogue.

        Args:
            timeout_s: how long to wait for the lock, in seconds.
            few: also if what ended runs left is little (`Keeper.seal`), where all rows are kept.

        Returns:
            Whether the lock was free in time.
        """
        if not self.folder.exists():
            return True
        try:
            with self._explaining(), self._keeping(timeout_s) as keeper:
                keeper.seal(few=few or self.retention_days is not None)
                keeper.merge_small()
                if self.retention_days is not None:
                    self._erase_old(keeper)
                keeper.clean()
        except _BusyError:
            return False
        return True

    def register(self) -> None:
        """Make the pictures that are hosted in the data folder the table `hosted`."""
        if self.data_folder is not None:
            make_private(self.folder)
            with self._explaining(), self._keeping(LOCK_TIMEOUT_S) as keeper:
                keeper.register(self.data_folder)

    def rebuild(self, paths: Sequence[Path]) -> RebuildResult:
        """Add the records of JSON Lines outputs that are not in the database; return how many.

        Raises:
            UsageError: a file cannot be read.
        """
        for path in paths:
            if not path.is_file() or not os.access(path, os.R_OK):
                raise UsageError(
                    f"{path} is not a readable file; --rebuild takes the outputs of scans, and what "
                    "`clipmod merge` makes of a run in parts"
                )
        with self._explaining():
            make_private(self.folder)
            with self._keeping(LOCK_TIMEOUT_S) as keeper:
                keeper.seal()
                results = [rebuild_from(keeper, path) for path in paths]
        return RebuildResult(*map(sum, zip(*results, strict=True)))

    def forget(
        self, *, source: str | None = None, sha256: str | None = None, before: datetime | None = None
    ) -> EraseResult:
        """Erase all rows of a source, of a content, or before a time, and the hosted files with them.

        Give exactly one of the three. Rows leave the answers at once, and the disk at once, but those that a
        running process has not sealed: these within `clipmod_cli.output.history.run.TICK_S` of it. Outputs
        are not touched.
        """
        chosen = EraseFilter(source=source, sha256=sha256 and sha256.lower(), before=before)
        folders = set() if self.data_folder is None else {self.data_folder}
        if not self.folder.exists():
            return EraseResult(image_ids=remove_chosen(folders, chosen))
        with self._explaining(), self._keeping(LOCK_TIMEOUT_S) as keeper:
            folders |= {Path(name) for name in keeper.inventory.data_folders}
            image_ids = remove_chosen(folders, chosen)
            keeper.seal()
            if before is not None:
                records = keeper.erase("before", before.timestamp())
            elif source is not None:
                records = keeper.erase("source", source)
            else:
                records = keeper.erase("sha256", chosen.sha256 or "")
        return EraseResult(records=records, image_ids=image_ids)

    def must_seal(self, journal: str, run_id: str) -> tuple[bool, bool]:
        """Return whether rows of a journal were erased, and whether the run's command line was."""
        with self._explaining():
            erasures = load_inventory(self.folder).erasures
        return (
            any(journal in one.journals for one in erasures),
            any(run_id in one.commands for one in erasures),
        )

    def query(self, sql: str) -> QueryResult:
        """Return the result of a query, which can neither change anything nor reach any other file.

        Raises:
            UsageError: the query is wrong, or is not one that only reads.
        """
        self._seal_before_reading()
        columns, rows = self._read(lambda connection: select(connection, sql))
        return QueryResult(columns=columns, rows=rows)

    def stats(self) -> dict[str, Any]:
        """Return the statistics that `clipmod_cli.output.history.stats.collect` describes."""
        self._seal_before_reading()
        return self._read(lambda connection: collect(connection, self.path, self.size), load=True)

    def serve_stats(self, hosted: int | None = None) -> dict[str, Any]:
        """Return what `clipmod_cli.output.history.stats.collect_serve` describes."""
        return self._read(lambda connection: collect_serve(connection, self.size, hosted), load=True)

    def ping(self) -> None:
        """Read something of each sealed file."""

        def count(connection: DuckDBPyConnection) -> None:
            connection.execute("SELECT count(*) FROM stored_rows").fetchall()

        self._read(count, journals=False)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        files = [self.path, *(self.folder.iterdir() if self.folder.exists() else ())]
        return sum(path.stat().st_size for path in files if path.is_file())

    def _seal_before_reading(self) -> None:
        """Seal what ended runs left, where that is possible: so that their end is known."""
        try:
            self.maintain()
        except (ClipmodError, OSError) as error:
            log.debug("the files beside %s stay as they are: %s", self.path, error)
        with self._explaining():
            gone = take_snapshot(self.folder).gone
        if gone:
            log.warning(
                "%s lacks %d of its files, and with them %s rows. To add them from an output again: "
                "clipmod stats --rebuild FILE",
                self.folder,
                len(gone),
                f"{sum(file.rows for file in gone):,}",
            )

    def _read(
        self, work: Callable[[DuckDBPyConnection], T], *, load: bool = False, journals: bool = True
    ) -> T:
        with self._explaining():
            return read(self.path, self.folder, work, load=load, journals=journals)

    @contextmanager
    def _keeping(self, timeout_s: float) -> Iterator[Keeper]:
        """Hold the folder's lock; write the catalogue."""
        lock = lock_file(self.folder / ".lock")
        try:
            lock.acquire(timeout=timeout_s)
        except Timeout as error:
            raise _BusyError(
                f"the statistics database {self.path} has been busy for {timeout_s:.0f} s; try again"
            ) from error
        try:
            with connect(threads="1") as connection:
                keeper = Keeper(self.folder, connection, self.clock)
                self._show_new_journals(keeper)
                yield keeper
                write_catalogue(self.path, keeper.snapshot())
        finally:
            lock.release()

    def _show_new_journals(self, keeper: Keeper) -> None:
        """Write the catalogue before other journals are sealed, which may take seconds."""
        import duckdb

        try:
            keeper.inventory = write_catalogue(self.path, keeper.snapshot())
        except (duckdb.Error, OSError) as error:  # a full disk does not keep rows from being erased
            log.debug("cannot write %s yet: %s", self.path, error)

    def _erase_old(self, keeper: Keeper) -> None:
        day = (self.clock() - (self.retention_days or 0) * DAY_S) // DAY_S * DAY_S
        keeper.erase_days(day)
        folders = {Path(name) for name in keeper.inventory.data_folders}
        remove_chosen(folders, EraseFilter(before=datetime.fromtimestamp(day, UTC)))

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Translate errors of DuckDB and of the disk."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            told = self._damage() or f"cannot use the files in {self.folder}: {first_line(error)}"
            raise OutputError(told) from error
        except OSError as error:
            raise OutputError(f"cannot use the files in {self.folder}: {error}") from error
        except RuntimeError as error:
            if str(error) == INTERRUPTED:
                raise KeyboardInterrupt from error
            raise

    def _damage(self) -> str:
        """Return which sealed file cannot be read and what to do, for people; empty if all can."""
        import duckdb

        rows = {file.name: file.rows for file in load_inventory(self.folder).files}
        for path in take_snapshot(self.folder).sealed:
            try:
                with connect() as connection:
                    connection.execute(f"SELECT bit_xor(hash(rows)) FROM {parquet([path])} AS rows")  # noqa: S608
            except duckdb.Error as error:
                return (
                    f"{path} is damaged ({first_line(error)}). Move it away to go on without its "
                    f"{rows[path.name]:,} rows; clipmod stats --rebuild FILE adds them from an output again"
                )
        return ""


class _BusyError(OutputError):
    """Another process holds the lock."""
