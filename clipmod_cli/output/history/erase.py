"""How rows leave an open store: because they are old, or because somebody asked for it.

Deleted rows' bytes stay in a DuckDB file until it is written anew, which is
`clipmod_cli.output.history.file.rewrite`. The files of hosted pictures go with their rows, by
`clipmod_cli.output.history.hosted_files`: before the commit, so that a file that cannot be removed keeps its
row. Only conditions that are written here are put into SQL as text; values are bound.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256 as hash_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmod_cli.output.history import hosted_files
from clipmod_cli.output.history.file import count, transaction
from clipmod_cli.output.history.hosted_files import EraseFilter, HostedFile
from clipmod_cli.output.history.spool import LiveRun
from clipmod_cli.records import write_name

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was erased.

    Attributes:
        records: how many.
        image_ids: of hosted pictures.
    """

    records: int = 0
    image_ids: frozenset[str] = frozenset()

    def __add__(self, other: Erased) -> Erased:
        """Return both together."""
        return Erased(records=self.records + other.records, image_ids=self.image_ids | other.image_ids)


def forget(
    connection: DuckDBPyConnection, wanted: EraseFilter, living: Sequence[LiveRun], folders: Iterable[Path]
) -> Erased:
    """Erase rows and files; `folders` are read too, for pictures that have no row here.

    Raises:
        OutputError: a file cannot be removed.
    """
    if wanted.source is not None:
        erased = erase_source(connection, wanted.source, living)
    elif wanted.sha256 is not None:
        erased = erase_content(connection, wanted.sha256, living)
    elif wanted.before is not None:
        erased = erase_before(connection, min(wanted.before, datetime.now(UTC)), living)
    else:
        return Erased()
    return erased + forget_files(folders, wanted, erased.image_ids)


def forget_files(folders: Iterable[Path], wanted: EraseFilter, known: Collection[str] = ()) -> Erased:
    """Erase the files that are wanted, and those of pictures whose ids are known; return what had no row.

    Raises:
        OutputError: a file cannot be removed.
    """
    found = (hosted_files.remove_wanted(folder, wanted, known) for folder in folders)
    return Erased(image_ids=frozenset().union(*found))


def erase_before(connection: DuckDBPyConnection, moment: datetime, living: Iterable[LiveRun] = ()) -> Erased:
    """Delete what is from before a moment, and runs of which nothing is left; return what.

    Raises:
        OutputError: the file of a hosted picture cannot be removed; nothing is deleted.
    """
    moment = moment.astimezone(UTC).replace(tzinfo=None)
    with transaction(connection):
        number = _erase_items(connection, "judged_at < ?", moment)
        connection.execute("DELETE FROM requests WHERE requested_at < ?", [moment])
        pictures = _erase_hosted(connection, "hosted_at < ?", moment)
        connection.execute(
            """
            DELETE FROM runs WHERE started_at < ? AND ended <> 'running'
            AND NOT EXISTS (SELECT 1 FROM items WHERE items.run_id = runs.run_id)
            AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.run_id = runs.run_id)
            """,
            [moment],
        )
        for run in living:
            values = [run.run_id, moment, run.through]
            connection.execute("INSERT INTO forgotten VALUES (?, 'before', NULL, ?, ?)", values)
    return Erased(records=number, image_ids=pictures)


def erase_source(connection: DuckDBPyConnection, source: str, living: Iterable[LiveRun]) -> Erased:
    """Delete all items of a path, URL or name, its pictures, and the commands that name it; return what.

    Raises:
        OutputError: the file of a hosted picture cannot be removed; nothing is deleted.
    """
    text, encoded = write_name(source)
    with transaction(connection):
        number = _erase_items(connection, "coalesce(source_b64, source) = ?", encoded or text)
        pictures = _erase_hosted(connection, "coalesce(name_b64, name) = ?", encoded or text)
        connection.execute("UPDATE runs SET command = NULL WHERE contains(command, ?)", [text])
        connection.execute("UPDATE requests SET error = NULL WHERE contains(error, ?)", [text])
        _remember(connection, "source", encoded or text, living)
    return Erased(records=number, image_ids=pictures)


def erase_content(connection: DuckDBPyConnection, sha256: str, living: Iterable[LiveRun]) -> Erased:
    """Delete all items whose bytes have a hash (in lower case), and their pictures; return what.

    Raises:
        OutputError: the file of a hosted picture cannot be removed; nothing is deleted.
    """
    with transaction(connection):
        number = _erase_items(connection, "sha256 = ?", sha256)
        pictures = _erase_hosted(connection, "sha256 = ?", sha256)
        _remember(connection, "sha256", sha256, living)
    return Erased(records=number, image_ids=pictures)


def data_folders(connection: DuckDBPyConnection) -> set[Path]:
    """Return the folders below which the store knows of hosted pictures."""
    rows = connection.execute("SELECT DISTINCT data_folder FROM hosted WHERE data_folder IS NOT NULL")
    return {Path(folder) for (folder,) in rows.fetchall()}


def _erase_items(connection: DuckDBPyConnection, condition: str, value: Any) -> int:
    connection.execute(
        "DELETE FROM segments USING items WHERE segments.run_id = items.run_id "  # noqa: S608
        f'AND segments."index" = items."index" AND {condition}',
        [value],
    )
    return count(connection, f"DELETE FROM items WHERE {condition}", [value])  # noqa: S608


def _erase_hosted(connection: DuckDBPyConnection, condition: str, value: Any) -> frozenset[str]:
    rows = connection.execute(
        f"DELETE FROM hosted WHERE {condition} RETURNING image_id, data_folder",  # noqa: S608
        [value],
    ).fetchall()
    hosted_files.remove(HostedFile(image_id=image_id, data_folder=folder) for image_id, folder in rows)
    return frozenset(image_id for image_id, _ in rows)


def _remember(connection: DuckDBPyConnection, by: str, value: str, living: Iterable[LiveRun]) -> None:
    # A living run's last rows are in files that only it touches: they are dropped when they come in.
    # What comes later, such as the same picture sent to a server once more, is another matter.
    digest = hash_of(value.encode()).hexdigest()
    for run in living:
        connection.execute(
            "INSERT INTO forgotten VALUES (?, ?, ?, NULL, ?)", [run.run_id, by, digest, run.through]
        )
