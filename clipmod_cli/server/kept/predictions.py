"""The prediction file of a single picture: its answer as JSON, for as long as pictures are kept."""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipmod_cli.output.history.spool import make_private
from clipmod_cli.server.kept.data_files import data_folder, remove, write_whole
from clipmod_cli.settings import Settings

log = logging.getLogger(__name__)

FOLDER: Final = "predictions"
_ENDING: Final = "_prediction.json"
_STEM_CHARS: Final = 60
"""Enough to recognise a picture by, well within what file systems take."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9-]+")


@dataclass(frozen=True)
class Predictions:
    """The folder of prediction files; all calls block."""

    folder: Path
    expiry_s: float

    def name_for(self, image: str) -> str:
        """Return a new file's name, as answers print it; it cannot collide with another's.

        Of the picture's own name only letters, digits and dashes of its last part are kept.
        """
        return f"{FOLDER}/{stem_of(image)}_{secrets.token_hex(8)}{_ENDING}"

    def write(self, name: str, answer: bytes) -> bool:
        """Keep an answer under a name that `name_for` gave; return whether that could be done."""
        try:
            write_whole(self.folder / name.removeprefix(f"{FOLDER}/"), answer)
        except OSError as e:
            log.warning("a prediction could not be written: %s", e.strerror or e)
            return False
        return True

    def sweep(self) -> None:
        """Remove what is over its time."""
        oldest = time.time() - self.expiry_s
        try:
            for path in self.folder.glob(f"*{_ENDING}*"):
                if path.stat().st_mtime < oldest:
                    remove(path)
        except OSError as e:
            log.debug("old predictions cannot be looked for: %s", e)


def stem_of(image: str) -> str:
    """Return what a file name may hold of a picture's name."""
    last = re.split(r"[/\\]", image)[-1]
    stem = last.rpartition(".")[0] or last
    return _UNSAFE.sub("_", stem)[:_STEM_CHARS].strip("_") or "image"


def predictions_of(settings: Settings) -> Predictions | None:
    """Return where predictions are written; None where none are, or the folder cannot be had."""
    if settings.no_predictions:
        return None
    made = Predictions(data_folder(settings) / FOLDER, settings.image_expiry_hours * 3600)
    try:
        make_private(made.folder)
    except OSError as e:
        log.warning("predictions cannot be written to %s (%s); the service goes on without", made.folder, e)
        return None
    made.sweep()
    return made
