"""Files in the data folder, written atomically, readable by their owner only; and prediction files."""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from clipmod_cli.output.history.spool import make_private
from clipmod_cli.settings.definition import Settings

log = logging.getLogger(__name__)


def data_folder(settings: Settings) -> Path:
    """Return the folder of hosted pictures and prediction files."""
    if settings.data_dir:
        return Path(settings.data_dir).expanduser()
    return Path(platformdirs.user_data_dir("clipmod", appauthor=False))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically, readable by its owner only.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        part.replace(path)
    except OSError:
        remove(part)
        raise


def remove(path: Path) -> None:
    """Remove a file; errors are only logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        log.debug("%s cannot be removed: %s", path, e)


log = logging.getLogger(__name__)

FOLDER: Final = "predictions"
_ENDING: Final = "_prediction.json"
_STEM_CHARS: Final = 60
"""Of a picture's name: within the limits of file systems."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9-]+")


@dataclass(frozen=True)
class Predictions:
    """The folder of prediction files: answers as JSON, kept as long as hosted pictures. All calls block."""

    folder: Path
    expiry_s: float

    def name_for(self, image: str) -> str:
        """Return a new unique file name, as answers print it, with safe characters of the image's name."""
        return f"{FOLDER}/{stem_of(image)}_{secrets.token_hex(8)}{_ENDING}"

    def write(self, name: str, answer: bytes) -> bool:
        """Write an answer to a name from `name_for`; return whether that succeeded."""
        try:
            write_whole(self.folder / name.removeprefix(f"{FOLDER}/"), answer)
        except OSError as e:
            log.warning("cannot write a prediction file: %s", e.strerror or e)
            return False
        return True

    def sweep(self) -> None:
        """Remove expired files."""
        oldest = time.time() - self.expiry_s
        try:
            for path in self.folder.glob(f"*{_ENDING}*"):
                if path.stat().st_mtime < oldest:
                    remove(path)
        except OSError as e:
            log.debug("cannot list old predictions: %s", e)


def stem_of(image: str) -> str:
    """Return a picture's name as part of a file name: letters, digits and dashes of its last part."""
    last = re.split(r"[/\\]", image)[-1]
    stem = last.rpartition(".")[0] or last
    return _UNSAFE.sub("_", stem)[:_STEM_CHARS].strip("_") or "image"


def predictions_of(settings: Settings) -> Predictions | None:
    """Return the prediction files; None if they are off or the folder cannot be used."""
    if settings.no_predictions:
        return None
    made = Predictions(data_folder(settings) / FOLDER, settings.image_expiry_hours * 3600)
    try:
        make_private(made.folder)
    except OSError as e:
        log.warning("cannot write predictions to %s (%s); serving without prediction files", made.folder, e)
        return None
    made.sweep()
    return made
