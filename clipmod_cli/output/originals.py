"""Saving downloaded files under the SHA-256 of their bytes, never under a name from a URL or a server."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from clipmod_cli.atomic import atomic_file
from clipmod_cli.decode.formats import HEAD_BYTES, sniff
from clipmod_cli.errors import OutputError
from clipmod_cli.types import Failure, Item


class Originals:
    """A folder of downloaded files: `ab/ab12….jpg`, each content once."""

    def __init__(self, folder: str) -> None:
        """Create the folder if it does not exist.

        Raises:
            OutputError: it cannot be created.
        """
        self._folder = Path(folder).expanduser()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(f"cannot write to {self._folder}: {e.strerror}") from e

    def save_all(self, found: Iterable[Item | Failure]) -> Iterator[Item | Failure]:
        """Yield inputs unchanged, each item after its bytes have been saved.

        Raises:
            OutputError: they cannot be written.
        """
        for one in found:
            if isinstance(one, Item):
                self.save(one)
            yield one

    def save(self, item: Item) -> None:
        """Write the downloaded bytes of an item atomically, unless they are there already.

        Raises:
            OutputError: they cannot be written.
        """
        try:
            if item.spilled is not None:
                with Path(item.spilled).open("rb") as file:
                    head = file.read(HEAD_BYTES)
                    file.seek(0)
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    file.seek(0)
                    self._write(self._path(digest, head), file)
            elif item.data is not None:
                digest = hashlib.sha256(item.data).hexdigest()
                self._write(self._path(digest, item.data[:HEAD_BYTES]), item.data)
        except OSError as e:
            raise OutputError(f"cannot write to {self._folder}: {e.strerror}") from e

    def _path(self, digest: str, head: bytes) -> Path:
        known = sniff(head)
        return self._folder / digest[:2] / f"{digest}.{known.extension if known is not None else 'bin'}"

    def _write(self, path: Path, content: bytes | BinaryIO) -> None:
        if path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        with atomic_file(path) as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                shutil.copyfileobj(content, file)
