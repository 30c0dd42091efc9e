"""Erasing files of hosted pictures, and of the predictions about them.

    DATA/hosted/IMAGE_ID         the picture
    DATA/hosted/IMAGE_ID.json    its name and hash: a `HostedRow`
    DATA/predictions/*.json      answers, with their picture's id in the name or in the text

A file that does not exist is not an error.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from clipmod_cli.errors import OutputError

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


def remove_chosen(data_folders: Iterable[Path], chosen: EraseFilter) -> frozenset[str]:
    """Remove the chosen files of data folders, and the predictions about these pictures.

    Returns the ids of the pictures.

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
            if _is_chosen(path, chosen) or _is_about(path, ids):
                _unlink(path)
        removed |= ids
    return frozenset(removed)


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
