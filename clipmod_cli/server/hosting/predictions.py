"""Prediction files: answers of `/predict/single` as JSON, in `DATA/predictions`, kept as long as pictures."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clipmod_cli.output.history.run import data_folder
from clipmod_cli.server.configuration import MB
from clipmod_cli.server.hosting.folder import QuotaFolder
from clipmod_cli.server.hosting.pictures import ID_BYTES
from clipmod_cli.server.hosting.quota import AnswerPins, KeptFile, QuotaLedger
from clipmod_cli.settings.definition import Settings

log = logging.getLogger(__name__)

FOLDER: Final = "predictions"
_ENDING: Final = "_prediction.json"
_STEM_CHARS: Final = 60
"""Of a picture's name: within the limits of file systems."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9-]+")


class Predictions(QuotaFolder):
    """The folder of prediction files."""

    def name_for(self, image: str, image_id: str | None = None) -> str:
        """Return a new unique file name, as answers print it.

        Args:
            image: the picture's name, of which safe characters are kept.
            image_id: of the hosted picture, by which `remove_of` finds the file.
        """
        return f"{FOLDER}/{stem_of(image)}_{image_id or secrets.token_hex(ID_BYTES)}{_ENDING}"

    def write_answer(self, name: str, answer: bytes, pins: AnswerPins) -> bool:
        """Write an answer to a name from `name_for`; return whether that succeeded."""
        try:
            written = self.write(name.removeprefix(f"{FOLDER}/"), len(answer), (answer,), pins)
        except OSError as e:
            log.warning("cannot write a prediction file: %s", e.strerror or e)
            return False
        if not written:
            log.warning("a prediction file of %d bytes has no room in its quota", len(answer))
        return written

    def remove_of(self, image_id: str) -> None:
        """Remove the answers about a hosted picture, given by a valid id."""
        for path in self.folder.glob(f"*_{image_id}{_ENDING}"):
            self.forget(path.name)

    def paths(self, key: str) -> tuple[Path, ...]:
        """Return the file."""
        return (self.folder / key,)

    def complete(self, names: set[str]) -> Iterator[str]:
        """Yield the names of prediction files; any other file is not from clipmod."""
        return (name for name in names if name.endswith(_ENDING))

    def incomplete(self, names: set[str]) -> Iterator[str]:
        """Yield what killed writers left."""
        return (name for name in names if f"{_ENDING}." in name and name.endswith(".part"))

    def read(self, key: str) -> KeptFile | None:
        """Return a file's size and times."""
        try:
            found = (self.folder / key).stat()
        except OSError:
            return None
        return KeptFile(
            size=found.st_size, written_at=found.st_mtime, expires_at=found.st_mtime + self.expiry_s
        )


def stem_of(image: str) -> str:
    """Return a picture's name as part of a file name: letters, digits and dashes of its last part."""
    last = re.split(r"[/\\]", image)[-1]
    stem = last.rpartition(".")[0] or last
    return _UNSAFE.sub("_", stem)[:_STEM_CHARS].strip("_") or "image"


def predictions_of(settings: Settings) -> Predictions | None:
    """Return the prediction files; None if they are off or the folder cannot be used."""
    if settings.no_predictions:
        return None
    made = Predictions(
        data_folder(settings) / FOLDER,
        settings.image_expiry_hours * 3600,
        QuotaLedger(settings.predictions_mb * MB, settings.predictions_files),
    )
    try:
        made.open()
    except OSError as e:
        log.warning("cannot write predictions to %s (%s); serving without prediction files", made.folder, e)
        return None
    return made
