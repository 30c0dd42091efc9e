"""Saving downloaded files under the SHA-256 of their bytes, never under a name from a URL or a server."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from clipmod_cli.atomic import atomic_file
from clipmod_cli.decode.formats import HEAD_BYTES, sniff
from clipmod_cli.errors import OutputError
from clipmod_cli.types import Failure, Item


class Originals:
    """A folder of downloaded files: `ab/ab12….jpg`, each content once.

    Methods raise OutputError if it cannot be written.
    """

    def __init__(self, folder: str) -> None:
        """Create the folder if it does not exist."""
        self._folder = Path(folder).expanduser()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(f"cannot write to {self._folder}: {e.strerror}") from e

    def save_all(self, found: Iterable[Item | Failure]) -> Iterator[Item | Failure]:
        """Yield inputs unchanged, each item after its bytes have been saved."""
        for one in found:
            if isinstance(one, Item):
                self.save(one)
            yield one

    def save(self, item: Item) -> None:
        """Write the downloaded bytes of an item atomically, unless they are there already."""
        if item.spilled is None and item.data is None:
            return
        try:
            with Path(item.spilled).open("rb") if item.spilled else io.BytesIO(item.data or b"") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                known = sniff(file.read(HEAD_BYTES))
                file.seek(0)
                path = self._folder / digest[:2] / f"{digest}.{known.extension if known else 'bin'}"
                if not path.exists():
                    path.parent.mkdir(exist_ok=True)
                    with atomic_file(path) as saved:
                        shutil.copyfileobj(file, saved)
        except OSError as e:
            raise OutputError(f"cannot write to {self._folder}: {e.strerror}") from e
