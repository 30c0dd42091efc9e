"""The statistics database: its tables, opening it, and rewriting its file.

A connection lives for one operation only: while a process has a DuckDB file open for writing, no other
process can open it. Locking is in `clipmod_cli.output.history.store`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clipmod_cli import __version__
from clipmod_cli.errors import UsageError
from clipmod_cli.output.columns import column_types, columns_of
from clipmod_cli.output.history.rows import HostedRow, RequestRow, RunInfo
from clipmod_cli.output.history.spool import PRIVATE_FILE
from clipmod_cli.records import Record
from clipmod_cli.records.parts import SegmentRow

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY: Final = "1GB"
# A merge shares the machine with a scan, so it has one thread; what exceeds the memory limit is written to
# the spool folder.
NO_CHECKPOINT: Final = "1TB"
# DuckDB creates the write-ahead log with default permissions, and again after each checkpoint. They are
# restricted once, so the only checkpoint must be the one at closing.
INTERRUPTED: Final = "Query interrupted"  # DuckDB raises RuntimeError with this in place of KeyboardInterrupt

SCHEMA_VERSION: Final = 11
"""Raised whenever `TABLES` change; a database of any other version has to be rebuilt from outputs."""

RECORD_COLUMNS: Final = column_types(Record)
ITEM_COLUMNS: Final = {name: kind for name, kind in RECORD_COLUMNS.items() if name != "segments"}
SEGMENT_COLUMNS: Final = column_types(SegmentRow)
RUN_COLUMNS: Final = {**column_types(RunInfo), "version": "VARCHAR"}
REQUEST_COLUMNS: Final = {"run_id": "VARCHAR", "number": "BIGINT", **column_types(RequestRow)}
HOSTED_COLUMNS: Final = {
    "run_id": "VARCHAR",
    **column_types(HostedRow),
    "name_b64": "VARCHAR",
    "data_folder": "VARCHAR",
}


RECORD_KEY: Final = ("run_id", '"index"', "member", "sha256")
"""Identifies a record. Members of an archive at a URL share the position of the URL in the list."""


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f'"{name}" {kind}' for name, kind in columns.items())


TABLES: Final = (
    "CREATE TABLE meta (name VARCHAR PRIMARY KEY, value VARCHAR)",
    f"CREATE TABLE runs ({_listed(RUN_COLUMNS)}, PRIMARY KEY (run_id))",
    f"CREATE TABLE items ({_listed(ITEM_COLUMNS)}, judged_at TIMESTAMP)",  # its key: RECORD_KEY
    (
        'CREATE TABLE segments (run_id VARCHAR, "index" BIGINT, member VARCHAR, number BIGINT, '
        f"{_listed(SEGMENT_COLUMNS)})"
    ),
    f"CREATE TABLE requests ({_listed(REQUEST_COLUMNS)}, PRIMARY KEY (run_id, number))",
    f"CREATE TABLE hosted ({_listed(HOSTED_COLUMNS)}, PRIMARY KEY (image_id))",
    # Rows to erase as they are merged, from spool parts of an active run up to `last_part`. Names and
    # content hashes are hashed, since they are being erased themselves.
    (
        'CREATE TABLE erasures (run_id VARCHAR, "by" VARCHAR, digest VARCHAR, before TIMESTAMP, '
        "last_part BIGINT)"
    ),
)


def create_tables(connection: DuckDBPyConnection) -> None:
    """Create the tables of an empty database, with the record's field descriptions as comments."""
    for statement in TABLES:
        connection.execute(statement)
    for column in columns_of(Record):
        if column.name in ITEM_COLUMNS:
            text = column.description.replace("'", "''")
            connection.execute(f"COMMENT ON COLUMN items.\"{column.name}\" IS '{text}'")
    connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])


def open_for_writing(path: Path, spool: Path) -> DuckDBPyConnection:
    """Return a connection that may change the database, which is created if it does not exist.

    Raises:
        UsageError: it is damaged, of another version, or not a database of clipmod.
    """
    if not path.exists():
        _create(path, spool)
    shared = {"threads": "1", "memory_limit": MEMORY, "wal_autocheckpoint": NO_CHECKPOINT}
    connection = _connect(path, read_only=False, temp_directory=str(spool / "tmp"), **shared)
    _check_version(connection, path)
    # A first change creates the write-ahead log, whose permissions can then be restricted.
    opened = f"{datetime.now(UTC).isoformat()} by clipmod {__version__}"
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('opened', ?)", [opened])
    if _wal(path).exists():
        _wal(path).chmod(PRIVATE_FILE)
    return connection


def open_for_reading(path: Path) -> DuckDBPyConnection:
    """Return a connection that can neither change the database nor reach any other file.

    If the database does not exist, it is an empty one in memory.

    Raises:
        UsageError: it is damaged, of another version, or not a database of clipmod.
    """
    locked = {"enable_external_access": "false", "lock_configuration": "true", "temp_directory": ""}
    if path.exists():
        connection = _connect(path, read_only=True, **locked)
        _check_version(connection, path)
        return connection
    connection = _connect(":memory:", read_only=False, **locked)
    create_tables(connection)
    return connection


def rewrite(path: Path, spool: Path) -> None:
    """Copy the database to a new file, which has no bytes of deleted rows, and replace the old one.

    Raises:
        duckdb.Error: it is damaged.
    """
    fresh = _clear(spool / "new.duckdb")
    with _connect(":memory:", read_only=False, temp_directory=str(spool / "tmp")) as connection:
        for name, file in (("old", path), ("fresh", fresh)):
            connection.execute(f"ATTACH '{str(file).replace(chr(39), chr(39) * 2)}' AS {name}")
        connection.execute("COPY FROM DATABASE old TO fresh")
    fresh.chmod(PRIVATE_FILE)
    fresh.replace(path)


@contextmanager
def transaction(connection: DuckDBPyConnection) -> Iterator[None]:
    """Enter a transaction that is committed at the end, or rolled back if anything is raised."""
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        with suppress(Exception):  # a broken connection cannot roll back either
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def count(connection: DuckDBPyConnection, statement: str, values: Sequence[Any] = ()) -> int:
    """Return the number that a statement returns, as the number of rows that it changed."""
    found = connection.execute(statement, values).fetchone()
    return int(found[0]) if found else 0


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise UsageError for DuckDB's errors, and KeyboardInterrupt where Ctrl-C interrupted a query."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise _unusable(path, error) from error
    except RuntimeError as error:
        if str(error) == INTERRUPTED:
            raise KeyboardInterrupt from error
        raise


def _unusable(path: Path | str, error: Exception) -> UsageError:
    reason = str(error).strip().partition("\n")[0]
    return UsageError(
        f"cannot use the statistics database {path} ({reason}). If it is damaged, remove it and rebuild it "
        "from your outputs: clipmod stats --rebuild FILE"
    )


def _create(path: Path, spool: Path) -> None:
    # Created in the private folder and renamed: it is never visible half-written or with default permissions.
    unfinished = _clear(spool / "new.duckdb")
    _wal(path).unlink(missing_ok=True)  # left from a database that was deleted
    with _connect(unfinished, read_only=False) as connection:
        create_tables(connection)
    unfinished.chmod(PRIVATE_FILE)
    unfinished.replace(path)


def _clear(path: Path) -> Path:
    path.unlink(missing_ok=True)
    _wal(path).unlink(missing_ok=True)
    return path


def _wal(path: Path) -> Path:
    return Path(f"{path}.wal")


def _connect(path: Path | str, *, read_only: bool, **config: str) -> DuckDBPyConnection:
    import duckdb

    no_extensions = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    try:
        return duckdb.connect(str(path), read_only=read_only, config={**no_extensions, **config})
    except duckdb.Error as error:
        raise _unusable(path, error) from error


def _check_version(connection: DuckDBPyConnection, path: Path) -> None:
    """Raise UsageError, after closing the connection, if the database is not of this version."""
    import duckdb

    try:
        found = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
    except duckdb.Error as error:
        connection.close()
        if isinstance(error, duckdb.CatalogException):
            raise UsageError(
                f"{path} is a DuckDB file, but not a statistics database of clipmod; name another with --db"
            ) from None
        raise _unusable(path, error) from error
    if found != (str(SCHEMA_VERSION),):
        connection.close()
        raise UsageError(
            f"the statistics database {path} was written by another version of clipmod. Remove it and "
            "rebuild it from your outputs: clipmod stats --rebuild FILE"
        )
