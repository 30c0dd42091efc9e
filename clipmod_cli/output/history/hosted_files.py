"""How the files of hosted pictures are erased: by what the store says of them, or by what lies beside them.

    DATA/hosted/IMAGE_ID         the picture
    DATA/hosted/IMAGE_ID.json    its name and hash, with the fields of a `HostedRow`
    DATA/predictions/*.json      answers, with the id of their picture in the name or in the text

Keeping, giving out and expiring them is the server's. A file that is gone already is no error.
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

IMAGE_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,128}")  # It becomes a file's name, so it is no path.
TELLING: Final = 8  # Fewer characters of an id may be part of any file's name by chance.
NAMES: Final = ("name", "image", "source")  # what a sidecar or a prediction calls the input's name

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedFile:
    """One hosted picture, as the store knows it; the folder is None where it does not know that."""

    image_id: str
    data_folder: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseFilter:
    """What is to be erased: one of a name, a hash in lower-case hexadecimal, or all before a moment."""

    source: str | None = None
    sha256: str | None = None
    before: datetime | None = None


def remove(found: Iterable[HostedFile]) -> None:
    """Remove the files of hosted pictures, and the predictions about them.

    Raises:
        OutputError: a file is there and cannot be removed.
    """
    by_folder: dict[str, set[str]] = {}
    for one in found:
        if one.data_folder is not None and IMAGE_ID.fullmatch(one.image_id):
            by_folder.setdefault(one.data_folder, set()).add(one.image_id)
    for folder, ids in by_folder.items():
        _remove_ids(Path(folder), ids)


def remove_wanted(data_folder: Path, wanted: EraseFilter, known: Collection[str] = ()) -> set[str]:
    """Remove the files in a data folder that are wanted, and all of the pictures whose ids are known.

    The folder is read for what the store does not know: a picture may wait to be entered in it, or its
    store may be lost. Returns the ids of the pictures that were found so.

    Raises:
        OutputError: a file is there and cannot be removed.
    """
    found = [path for path in _files(data_folder / "hosted") if _is_wanted(path, wanted)]
    ids = {path.stem for path in found if IMAGE_ID.fullmatch(path.stem)}
    _remove_pictures(data_folder, ids)
    for path in found:
        _unlink(path)
    ids_of_both = ids.union(known)
    for path in _files(data_folder / "predictions"):
        if _is_wanted(path, wanted) or _is_about(path, ids_of_both):
            _unlink(path)
    return ids


def _remove_ids(data_folder: Path, ids: Collection[str]) -> None:
    # Pictures that expired took their predictions with them: only the others' are worth reading a folder for.
    kept = {image_id for image_id in ids if (data_folder / "hosted" / image_id).exists()}
    for path in _files(data_folder / "predictions") if kept else ():
        if _is_about(path, kept):
            _unlink(path)
    _remove_pictures(data_folder, ids)


def _remove_pictures(data_folder: Path, ids: Iterable[str]) -> None:
    for image_id in ids:  # The sidecar goes last: if this is cut off, the picture can still be found by it.
        _unlink(data_folder / "hosted" / image_id)
        _unlink(data_folder / "hosted" / f"{image_id}.json")


def _is_about(prediction: Path, ids: Collection[str]) -> bool:
    if not ids:
        return False
    named = any(len(image_id) >= TELLING and image_id in prediction.name for image_id in ids)
    return named or _fields(prediction).get("image_id") in ids


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be erased: {error.strerror or error}") from error


def _is_wanted(path: Path, wanted: EraseFilter) -> bool:
    if wanted.before is not None:
        try:
            return path.stat().st_mtime < wanted.before.timestamp()
        except FileNotFoundError:
            return False
    fields = _fields(path)
    if wanted.sha256 is not None:
        return str(fields.get("sha256")).lower() == wanted.sha256
    return any(fields.get(name) == wanted.source for name in NAMES)


def _fields(path: Path) -> dict[str, Any]:
    if path.suffix != ".json":
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        log.debug("%s says nothing of its picture: %s", path, error)
        return {}
    return found if isinstance(found, dict) else {}


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in folder.iterdir() if path.is_file() or path.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return
