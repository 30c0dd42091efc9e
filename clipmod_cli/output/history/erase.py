"""Rows out of the statistics database: by age, or because a user erases them.

Bytes of deleted rows stay in a DuckDB file until `clipmod_cli.output.history.file.rewrite`. The files of
hosted pictures are removed before the commit, so that the row stays if its file cannot be removed. Conditions
in SQL text come from the code; values are bound.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256 as hash_of
from pathlib import Path
from typing import TYPE_CHECKING

from clipmod_cli.output.history import hosted_files
from clipmod_cli.output.history.file import count, transaction
from clipmod_cli.output.history.hosted_files import EraseFilter
from clipmod_cli.output.history.spool import ActiveRun
from clipmod_cli.records import write_name

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseResult:
    """What was erased.

    Attributes:
        records: how many.
        image_ids: of hosted pictures.
    """

    records: int = 0
    image_ids: frozenset[str] = frozenset()


def erase_all(
    connection: DuckDBPyConnection,
    chosen: EraseFilter,
    active: Sequence[ActiveRun],
    folders: Iterable[Path],
) -> EraseResult:
    """Erase the chosen rows and files; pictures without a row are searched for in `folders`.

    Raises:
        OutputError: a file cannot be removed.
    """
    if chosen.source is not None:
        rows = _erase_source(connection, chosen.source, active)
    elif chosen.sha256 is not None:
        rows = _erase_content(connection, chosen.sha256, active)
    elif chosen.before is not None:
        rows = erase_before(connection, min(chosen.before, datetime.now(UTC)), active)
    else:
        return EraseResult()
    files = erase_files(folders, chosen, rows.image_ids)
    return EraseResult(records=rows.records, image_ids=rows.image_ids | files.image_ids)


def erase_files(folders: Iterable[Path], chosen: EraseFilter, image_ids: Collection[str] = ()) -> EraseResult:
    """Erase the chosen files, and those of these pictures; return the pictures that were found by their file.

    Raises:
        OutputError: a file cannot be removed.
    """
    found = (hosted_files.remove_chosen(folder, chosen, image_ids) for folder in folders)
    return EraseResult(image_ids=frozenset().union(*found))


def erase_before(
    connection: DuckDBPyConnection, time: datetime, active: Iterable[ActiveRun] = ()
) -> EraseResult:
    """Erase rows from before a time, and runs that have no rows left.

    Raises:
        OutputError: the file of a hosted picture cannot be removed; nothing is erased.
    """
    time = time.astimezone(UTC).replace(tzinfo=None)
    with transaction(connection):
        records = _erase_items(connection, "judged_at < ?", time)
        connection.execute("DELETE FROM requests WHERE requested_at < ?", [time])
        image_ids = _erase_hosted(connection, "hosted_at < ?", time)
        connection.execute(
            """
            DELETE FROM runs WHERE started_at < ? AND ended <> 'running'
            AND NOT EXISTS (SELECT 1 FROM items WHERE items.run_id = runs.run_id)
            AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.run_id = runs.run_id)
            """,
            [time],
        )
        _erase_at_merge(connection, active, "before", before=time)
    return EraseResult(records=records, image_ids=image_ids)


def data_folders(connection: DuckDBPyConnection) -> set[Path]:
    """Return the folders of the hosted pictures that the database knows."""
    rows = connection.execute("SELECT DISTINCT data_folder FROM hosted WHERE data_folder IS NOT NULL")
    return {Path(folder) for (folder,) in rows.fetchall()}


def _erase_source(connection: DuckDBPyConnection, source: str, active: Iterable[ActiveRun]) -> EraseResult:
    """Erase the rows of a path, URL or name, and the commands and errors that contain it."""
    text, encoded = write_name(source)
    name = encoded or text
    with transaction(connection):
        records = _erase_items(connection, "coalesce(source_b64, source) = ?", name)
        image_ids = _erase_hosted(connection, "coalesce(name_b64, name) = ?", name)
        connection.execute("UPDATE runs SET command = NULL WHERE contains(command, ?)", [text])
        connection.execute("UPDATE requests SET error = NULL WHERE contains(error, ?)", [text])
        _erase_at_merge(connection, active, "source", digest=hash_of(name.encode()).hexdigest())
    return EraseResult(records=records, image_ids=image_ids)


def _erase_content(connection: DuckDBPyConnection, sha256: str, active: Iterable[ActiveRun]) -> EraseResult:
    """Erase the rows of a content hash (in lower case)."""
    with transaction(connection):
        records = _erase_items(connection, "sha256 = ?", sha256)
        image_ids = _erase_hosted(connection, "sha256 = ?", sha256)
        _erase_at_merge(connection, active, "sha256", digest=hash_of(sha256.encode()).hexdigest())
    return EraseResult(records=records, image_ids=image_ids)


def _erase_items(connection: DuckDBPyConnection, condition: str, value: str | datetime) -> int:
    connection.execute(
        "DELETE FROM segments USING items WHERE segments.run_id = items.run_id "  # noqa: S608
        f'AND segments."index" = items."index" AND {condition}',
        [value],
    )
    return count(connection, f"DELETE FROM items WHERE {condition}", [value])  # noqa: S608


def _erase_hosted(connection: DuckDBPyConnection, condition: str, value: str | datetime) -> frozenset[str]:
    rows = connection.execute(
        f"DELETE FROM hosted WHERE {condition} RETURNING image_id, data_folder",  # noqa: S608
        [value],
    ).fetchall()
    hosted_files.remove(rows)
    return frozenset(image_id for image_id, _ in rows)


def _erase_at_merge(
    connection: DuckDBPyConnection,
    active: Iterable[ActiveRun],
    by: str,
    *,
    digest: str | None = None,
    before: datetime | None = None,
) -> None:
    # Only its own process may change an open part. Later parts are not affected: the same picture may be
    # sent to a server again.
    for run in active:
        values = [run.run_id, by, digest, before, run.last_part]
        connection.execute("INSERT INTO erasures VALUES (?, ?, ?, ?, ?)", values)
