"""Connections of DuckDB: the catalogue for other programs, and queries that can reach nothing else.

The catalogue is a DuckDB file with views over the files of the history, for `duckdb FILE` and the like.
clipmod's own queries do not read it, so it can neither be locked nor damaged to the harm of a run. It is
written when its text changes, whole or not at all; a program that has it open keeps the old one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, TypeVar

from clipmod_cli.errors import UsageError
from clipmod_cli.output.database import connect, first_line, quoted_list
from clipmod_cli.output.history.folder import PRIVATE_FILE, Inventory, Snapshot, take_snapshot
from clipmod_cli.output.history.views import VIEWS, comments, hosted_folders, journal_rows, statements

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TRIES: Final = 5
"""Of a query whose files another process has just replaced."""

LOADED_BYTES: Final = 1 << 28
"""Of journals that are read into memory for several queries."""

T = TypeVar("T")


def check_catalogue(path: Path, inventory: Inventory) -> bool:
    """Return whether the catalogue may be replaced: False while another program has it open for writing.

    It is opened only if it has changed since it was written.

    Raises:
        UsageError: the file of this name is something else, or damaged.
    """
    import duckdb

    if not path.exists() or _stamp(path) == (inventory.catalogue or [])[1:]:
        return True
    try:
        with connect(path, read_only=True) as connection:
            tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
            views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    except duckdb.Error as error:
        if "Could not set lock" in str(error):
            return False
        raise UsageError(
            f"cannot use the statistics database {path} ({first_line(error)}). Remove it if it is damaged: "
            f"it is only a catalogue of the files in {path}.runs, and is written again"
        ) from error
    if tables or not {name for (name,) in views} <= set(VIEWS):
        raise UsageError(
            f"{path} is a DuckDB file, but not a statistics database of clipmod; name another with --db"
        )
    return True


def write_catalogue(path: Path, snapshot: Snapshot) -> Inventory:
    """Write the catalogue of a snapshot, if its text has changed; return the inventory that says so.

    Raises:
        UsageError: the file of this name is something else, or damaged.
        duckdb.Error: it cannot be written.
        OSError: likewise.
    """
    made = [*statements(snapshot), *comments()]
    digest = sha256("\n".join(made).encode()).hexdigest()
    inventory = snapshot.inventory
    if path.exists() and inventory.catalogue == [digest, *_stamp(path)]:
        return inventory
    if not check_catalogue(path, inventory):
        return inventory
    temporary = snapshot.folder / f".{token_hex(8)}.duckdb"
    try:
        with connect(temporary) as connection:
            connection.execute("BEGIN")
            for statement in made:
                connection.execute(statement)
            connection.execute("COMMIT")
        temporary.chmod(PRIVATE_FILE)
        Path(f"{path}.wal").unlink(missing_ok=True)  # left from a file that was removed
        temporary.replace(path)
    finally:
        for left in (temporary, Path(f"{temporary}.wal")):
            with suppress(OSError):
                left.unlink(missing_ok=True)
    return replace(inventory, catalogue=[digest, *_stamp(path)]).save(snapshot.folder)


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def read(
    path: Path,
    folder: Path,
    work: Callable[[DuckDBPyConnection], T],
    *,
    load: bool = False,
    journals: bool = True,
) -> T:
    """Return what `work` makes of the rows, again if files were replaced meanwhile.

    Args:
        path: the catalogue, which is only checked.
        folder: of the files.
        work: is given a connection that can reach nothing but these files.
        load: read journals once, for several queries.
        journals: False leaves out the rows of journals.

    Raises:
        UsageError: the catalogue is something else.
        duckdb.Error: a file cannot be read, or `work` fails.
    """
    import duckdb

    for attempt in range(TRIES):
        snapshot = take_snapshot(folder)
        check_catalogue(path, snapshot.inventory)
        try:
            with connect() as connection:
                _open(connection, snapshot if journals else replace(snapshot, journals=()), load=load)
                return work(connection)
        except duckdb.IOException:
            if attempt + 1 == TRIES:
                raise
            time.sleep(0.05 * attempt)
    raise AssertionError("the last attempt returns or raises")


def select(connection: DuckDBPyConnection, sql: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns and rows of a query that only reads.

    Raises:
        UsageError: it is wrong, or does not only read.
        duckdb.IOException: a file cannot be read.
    """
    import duckdb

    try:
        if any(one.type != duckdb.StatementType.SELECT for one in connection.extract_statements(sql)):
            raise UsageError("the query failed: only queries that read are possible (SELECT, FROM, DESCRIBE)")
        found = _execute(connection, sql)
        columns = tuple(str(column[0]) for column in found.description or ())
        return columns, found.fetchall() if columns else []
    except duckdb.IOException:
        raise
    except duckdb.Error as error:
        raise UsageError(f"the query failed: {error}") from error


def _open(connection: DuckDBPyConnection, snapshot: Snapshot, *, load: bool) -> None:
    """Make the views, and lock the connection."""
    journals = ""
    if load and snapshot.journals and sum(path.stat().st_size for path in snapshot.journals) <= LOADED_BYTES:
        query = journal_rows(snapshot.journals, snapshot.inventory.erasures)
        connection.execute(f"CREATE TEMP TABLE loaded AS {query}")
        journals = "SELECT * FROM loaded"
    for statement in statements(snapshot, journals):
        connection.execute(statement.replace("VIEW", "TEMP VIEW", 1))
    for statement in (
        f"SET allowed_paths = {quoted_list([*snapshot.sealed, *snapshot.journals])}",
        f"SET allowed_directories = {quoted_list(hosted_folders(snapshot))}",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ):
        connection.execute(statement)


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
