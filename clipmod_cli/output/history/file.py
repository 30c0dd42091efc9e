"""The only ways to open the store's file, and to write it anew.

No connection lives longer than one piece of work: while one process has a DuckDB file open for
writing, no other can open it at all. Who may open it when is settled by `clipmod_cli.output.history.store`;
the tables are in `clipmod_cli.output.history.schema`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clipmod_cli import __version__
from clipmod_cli.errors import UsageError
from clipmod_cli.output.history.schema import SCHEMA_VERSION, create_tables, stand_in, upgrade
from clipmod_cli.output.history.spool import PRIVATE_FILE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY: Final = "1GB"
# A merge shares the machine with a scan, so it also takes one thread only; what does not fit into memory
# goes to the spool folder.
NO_CHECKPOINT: Final = "1TB"
# The log beside the file is made with the permissions of the day, and made again after each checkpoint.
# It is hidden once, so there must be one checkpoint only: the one that closing makes.


def open_for_writing(path: Path, spool: Path) -> DuckDBPyConnection:
    """Return a connection that may change the store, which is made if there is none, or upgraded.

    Raises:
        UsageError: it is broken, or not a store, or of a later version.
    """
    if not path.exists():
        _create(path, spool)
    shared = {"threads": "1", "memory_limit": MEMORY, "wal_autocheckpoint": NO_CHECKPOINT}
    connection = _connect(path, read_only=False, temp_directory=str(spool / "tmp"), **shared)
    version = _version(connection, path)
    # The first change makes the log, for which this one is there: it must be a change, so it is the time.
    opened = f"{datetime.now(UTC).isoformat()} by clipmod {__version__}"
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('opened', ?)", [opened])
    if _log(path).exists():
        _log(path).chmod(PRIVATE_FILE)
    if version < SCHEMA_VERSION:
        _upgrade(connection, path)
    return connection


def open_for_reading(path: Path) -> DuckDBPyConnection:
    """Return a connection that can neither change the store nor reach any other file.

    Where there is no store yet, it is an empty one in memory.

    Raises:
        UsageError: it is broken, or not a store, or of a later version.
    """
    locked = {"enable_external_access": "false", "lock_configuration": "true", "temp_directory": ""}
    if path.exists():
        connection = _connect(path, read_only=True, **locked)
        if _version(connection, path) < SCHEMA_VERSION:
            stand_in(connection)
        return connection
    connection = _connect(":memory:", read_only=False, **locked)
    create_tables(connection)
    return connection


def rewrite(path: Path, spool: Path) -> None:
    """Write the store's file anew, so that nothing of its deleted rows is left in it.

    Raises:
        UsageError: it is broken, or not a store.
    """
    import duckdb

    fresh = _clear(spool / "new.duckdb")
    try:
        with _connect(":memory:", read_only=False, temp_directory=str(spool / "tmp")) as connection:
            for name, file in (("old", path), ("fresh", fresh)):
                connection.execute(f"ATTACH '{str(file).replace(chr(39), chr(39) * 2)}' AS {name}")
            connection.execute("COPY FROM DATABASE old TO fresh")
    except duckdb.Error as error:
        raise broken(path, error) from error
    fresh.chmod(PRIVATE_FILE)
    fresh.replace(path)


@contextmanager
def transaction(connection: DuckDBPyConnection) -> Iterator[None]:
    """Enter a transaction that is committed at the end, and rolled back if anything is raised."""
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        with suppress(Exception):  # a connection that is broken cannot even do that
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def count(connection: DuckDBPyConnection, statement: str, values: Sequence[Any] = ()) -> int:
    """Return the number that a statement answers with, as of the rows that it changed."""
    found = connection.execute(statement, values).fetchone()
    return int(found[0]) if found else 0


def broken(path: Path | str, error: Exception) -> UsageError:
    """Return what to raise where DuckDB cannot work with the store."""
    reason = str(error).strip().partition("\n")[0]
    return UsageError(
        f"the store {path} cannot be used ({reason}). If it is damaged, move it away and bring its rows back "
        "from your outputs: clipmod stats --rebuild FILE"
    )


def _create(path: Path, spool: Path) -> None:
    # Made in the private folder and moved into place: it is never there half made, nor for all to read.
    unfinished = _clear(spool / "new.duckdb")
    _log(path).unlink(missing_ok=True)  # of a store that somebody deleted
    with _connect(unfinished, read_only=False) as connection:
        create_tables(connection)
    unfinished.chmod(PRIVATE_FILE)
    unfinished.replace(path)


def _clear(path: Path) -> Path:
    path.unlink(missing_ok=True)
    _log(path).unlink(missing_ok=True)
    return path


def _log(path: Path) -> Path:
    return Path(f"{path}.wal")


def _connect(path: Path | str, *, read_only: bool, **config: str) -> DuckDBPyConnection:
    import duckdb

    settings = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        **config,
    }
    try:
        return duckdb.connect(str(path), read_only=read_only, config=dict(settings))
    except duckdb.Error as error:
        raise broken(path, error) from error


def _upgrade(connection: DuckDBPyConnection, path: Path) -> None:
    import duckdb

    try:
        with transaction(connection):
            upgrade(connection)
    except duckdb.Error as error:
        connection.close()
        raise broken(path, error) from error


def _version(connection: DuckDBPyConnection, path: Path) -> int:
    """Return the version of the store's tables; a connection that is of no use is closed."""
    import duckdb

    try:
        found = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
        version = int(found[0]) if found else 0
    except (duckdb.Error, ValueError) as error:
        connection.close()
        if isinstance(error, duckdb.CatalogException):
            raise UsageError(
                f"{path} is a DuckDB file, but not a store of clipmod; name another with --db"
            ) from None
        raise broken(path, error) from error
    if version > SCHEMA_VERSION:
        connection.close()
        raise UsageError(
            f"the store {path} was written by a later clipmod (its version {version}, this one knows "
            f"{SCHEMA_VERSION}); upgrade clipmod, or name another with --db"
        )
    return version
