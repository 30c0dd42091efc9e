"""Erasing rows of the statistics database and files of hosted pictures: by age, or because a user asks.

    DATA/hosted/IMAGE_ID         the picture
    DATA/hosted/IMAGE_ID.json    its name and hash, with the fields of a `HostedRow`
    DATA/predictions/*.json      answers, with their picture's id in the name or in the text

Bytes of deleted rows stay in a DuckDB file until `clipmod_cli.output.history.file.rewrite`. Files are removed
before the commit, so that the row stays if its file cannot be removed; one that does not exist is not an
error. Conditions in SQL text come from the code; values are bound.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256 as hash_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clipmod_cli.errors import OutputError
from clipmod_cli.output.history.file import count, transaction
from clipmod_cli.records import write_name

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


IMAGE_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,128}")  # It becomes a file name, so it must not be a path.
SHORTEST_ID: Final = 8  # A shorter id may be part of any file name by chance.
NAMES: Final = ("name", "image", "source")  # the fields of a sidecar or a prediction with the input's name

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseFilter:
    """What to erase: one of a name, a hash in lower-case hexadecimal, or all before a time."""

    source: str | None = None
    sha256: str | None = None
    before: datetime | None = None


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
    files = remove_chosen(folders, chosen, rows.image_ids)
    return EraseResult(records=rows.records, image_ids=rows.image_ids | files)


def erase_hosted(
    connection: DuckDBPyConnection, image_ids: Collection[str], active: Mapping[str, int]
) -> None:
    """Erase rows of hosted pictures, also those that an active run has not sealed yet; touches no file."""
    with transaction(connection):
        for image_id in image_ids:
            if not count(connection, "DELETE FROM hosted WHERE image_id = ?", [image_id]):
                _erase_at_merge(connection, active, "image_id", image_id)


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
        'AND segments."index" = items."index" AND segments.member IS NOT DISTINCT FROM items.member '
        f"AND {items}",
        [value],
    )
    records = count(connection, f"DELETE FROM items WHERE {items}", [value])  # noqa: S608
    pictures = connection.execute(
        f"DELETE FROM hosted WHERE {hosted} RETURNING image_id, data_folder",  # noqa: S608
        [value],
    ).fetchall()
    remove_hosted(pictures)
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


def remove_hosted(found: Iterable[tuple[str, str | None]]) -> None:
    """Remove the files of hosted pictures (their id, and their data folder if known) and their predictions.

    Raises:
        OutputError: a file exists and cannot be removed.
    """
    by_folder: dict[str, set[str]] = {}
    for image_id, data_folder in found:
        if data_folder is not None and IMAGE_ID.fullmatch(image_id):
            by_folder.setdefault(data_folder, set()).add(image_id)
    for folder, ids in by_folder.items():
        _remove_ids(Path(folder), ids)


def remove_chosen(
    data_folders: Iterable[Path], chosen: EraseFilter, image_ids: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Remove the chosen files of data folders, and the predictions about these pictures.

    The folders are searched because the row of a picture may not be merged yet, or its database be lost.
    Returns the ids of the pictures that were found in this way.

    Raises:
        OutputError: a file exists and cannot be removed.
    """
    removed: set[str] = set()
    for data_folder in data_folders:
        found = [path for path in _files(data_folder / "hosted") if _is_chosen(path, chosen)]
        ids = {path.stem for path in found if IMAGE_ID.fullmatch(path.stem)}
        _remove_pictures(data_folder, ids)
        for path in found:
            _unlink(path)
        for path in _files(data_folder / "predictions"):
            if _is_chosen(path, chosen) or _is_about(path, ids | image_ids):
                _unlink(path)
        removed |= ids
    return frozenset(removed)


def _remove_ids(data_folder: Path, ids: Collection[str]) -> None:
    # The predictions of expired pictures are gone with them, so the folder is read for the others only.
    present = {image_id for image_id in ids if (data_folder / "hosted" / image_id).exists()}
    for path in _files(data_folder / "predictions") if present else ():
        if _is_about(path, present):
            _unlink(path)
    _remove_pictures(data_folder, ids)


def _remove_pictures(data_folder: Path, ids: Iterable[str]) -> None:
    for image_id in ids:  # The sidecar last: if this is interrupted, the picture can still be found by it.
        _unlink(data_folder / "hosted" / image_id)
        _unlink(data_folder / "hosted" / f"{image_id}.json")


def _is_about(prediction: Path, ids: Collection[str]) -> bool:
    if not ids:
        return False
    named = any(len(image_id) >= SHORTEST_ID and image_id in prediction.name for image_id in ids)
    return named or _fields(prediction).get("image_id") in ids


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot erase {path}: {error.strerror or error}") from error


def _is_chosen(path: Path, chosen: EraseFilter) -> bool:
    if chosen.before is not None:
        try:
            return path.stat().st_mtime < chosen.before.timestamp()
        except FileNotFoundError:
            return False
    fields = _fields(path)
    if chosen.sha256 is not None:
        return str(fields.get("sha256")).lower() == chosen.sha256
    return any(fields.get(name) == chosen.source for name in NAMES)


def _fields(path: Path) -> dict[str, Any]:
    if path.suffix != ".json":
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        log.debug("cannot read %s: %s", path, error)
        return {}
    return found if isinstance(found, dict) else {}


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in folder.iterdir() if path.is_file() or path.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return
