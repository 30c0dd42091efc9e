"""Rows out of the statistics database: by age, or because a user erases them.

Bytes of deleted rows stay in a DuckDB file until `clipmod_cli.output.history.file.rewrite`. The files of
hosted pictures are removed before the commit, so that the row stays if its file cannot be removed. Conditions
in SQL text come from the code; values are bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256 as hash_of
from pathlib import Path
from typing import TYPE_CHECKING

from clipmod_cli.output.history import hosted_files
from clipmod_cli.output.history.file import count, transaction
from clipmod_cli.output.history.hosted_files import EraseFilter
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
    connection: DuckDBPyConnection, chosen: EraseFilter, active: Mapping[str, int], folders: Iterable[Path]
) -> EraseResult:
    """Erase the chosen rows and files; pictures without a row are searched for in `folders`.

    Args:
        connection: may write.
        chosen: what to erase.
        active: the number of the last unmerged part by active run.
        folders: may have files of hosted pictures.

    Raises:
        OutputError: a file cannot be removed.
    """
    if chosen.before is not None:
        rows = erase_before(connection, min(chosen.before, datetime.now(UTC)), active)
    else:
        with transaction(connection):
            if chosen.source is not None:
                rows = _erase_source(connection, chosen.source, active)
            else:
                rows = _erase_rows(connection, "sha256 = ?", "sha256 = ?", chosen.sha256 or "")
                _erase_at_merge(connection, active, "sha256", chosen.sha256 or "")
    files = hosted_files.remove_chosen(folders, chosen, rows.image_ids)
    return EraseResult(records=rows.records, image_ids=rows.image_ids | files)


def erase_before(
    connection: DuckDBPyConnection, time: datetime, active: Mapping[str, int] | None = None
) -> EraseResult:
    """Erase rows from before a time, and runs that have no rows left.

    Raises:
        OutputError: the file of a hosted picture cannot be removed; nothing is erased.
    """
    time = time.astimezone(UTC).replace(tzinfo=None)
    with transaction(connection):
        erased = _erase_rows(connection, "judged_at < ?", "hosted_at < ?", time)
        connection.execute("DELETE FROM requests WHERE requested_at < ?", [time])
        connection.execute(
            """
            DELETE FROM runs WHERE started_at < ? AND ended <> 'running'
            AND NOT EXISTS (SELECT 1 FROM items WHERE items.run_id = runs.run_id)
            AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.run_id = runs.run_id)
            """,
            [time],
        )
        _erase_at_merge(connection, active or {}, "before", time)
    return erased


def data_folders(connection: DuckDBPyConnection) -> set[Path]:
    """Return the folders of the hosted pictures that the database knows."""
    rows = connection.execute("SELECT DISTINCT data_folder FROM hosted WHERE data_folder IS NOT NULL")
    return {Path(folder) for (folder,) in rows.fetchall()}


def _erase_source(connection: DuckDBPyConnection, source: str, active: Mapping[str, int]) -> EraseResult:
    """Erase the rows of a path, URL or name, and the commands and errors that contain it."""
    text, encoded = write_name(source)
    name = encoded or text
    erased = _erase_rows(connection, "coalesce(source_b64, source) = ?", "coalesce(name_b64, name) = ?", name)
    connection.execute("UPDATE runs SET command = NULL WHERE contains(command, ?)", [text])
    connection.execute("UPDATE requests SET error = NULL WHERE contains(error, ?)", [text])
    _erase_at_merge(connection, active, "source", name)
    return erased


def _erase_rows(
    connection: DuckDBPyConnection, items: str, hosted: str, value: str | datetime
) -> EraseResult:
    """Erase the records and the hosted pictures, with their files, that meet these conditions of a value."""
    connection.execute(
        "DELETE FROM segments USING items WHERE segments.run_id = items.run_id "  # noqa: S608
        f'AND segments."index" = items."index" AND {items}',
        [value],
    )
    records = count(connection, f"DELETE FROM items WHERE {items}", [value])  # noqa: S608
    pictures = connection.execute(
        f"DELETE FROM hosted WHERE {hosted} RETURNING image_id, data_folder",  # noqa: S608
        [value],
    ).fetchall()
    hosted_files.remove(pictures)
    return EraseResult(records=records, image_ids=frozenset(image_id for image_id, _ in pictures))


def _erase_at_merge(
    connection: DuckDBPyConnection, active: Mapping[str, int], by: str, value: str | datetime
) -> None:
    # Only its own process may change an open part. Later parts are not affected: the same picture may be
    # sent to a server again.
    digest, before = (hash_of(value.encode()).hexdigest(), None) if isinstance(value, str) else (None, value)
    for run_id, last_part in active.items():
        connection.execute(
            "INSERT INTO erasures VALUES (?, ?, ?, ?, ?)", [run_id, by, digest, before, last_part]
        )
