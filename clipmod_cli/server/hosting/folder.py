"""A private folder of files that expire, within a quota, which several processes may share.

Every process counts what it wrote itself at once, and what others wrote at each `sweep`; so all together may
be over the quota by what the others wrote since. What one process removes is gone for all.
"""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clipmod_cli.atomic import atomic_file
from clipmod_cli.output.history.folder import PRIVATE_FILE, make_private
from clipmod_cli.server.hosting.quota import AnswerPins, KeptFile, QuotaLedger

log = logging.getLogger(__name__)

STALE_S: Final = 600.0
"""The age at which an incomplete entry is what a crash left, not what another process is writing."""


class QuotaFolder(ABC):
    """The files of one kind in a folder. Safe to use from any thread; blocks.

    An entry is one file or a few, under a key.
    """

    def __init__(self, folder: Path, expiry_s: float, ledger: QuotaLedger) -> None:
        """Set the limits; `open` touches the folder first."""
        self.folder = folder
        self.expiry_s = expiry_s
        self.ledger = ledger

    @abstractmethod
    def paths(self, key: str) -> tuple[Path, ...]:
        """Return the files of an entry, in the order in which they are written and removed."""

    @abstractmethod
    def complete(self, names: set[str]) -> Iterator[str]:
        """Yield the keys of the entries that are complete in a folder with these files."""

    @abstractmethod
    def incomplete(self, names: set[str]) -> Iterator[str]:
        """Yield the files that belong to no complete entry and may be removed once they are old."""

    @abstractmethod
    def read(self, key: str) -> KeptFile | None:
        """Return what the ledger needs of a complete entry; None if it is damaged, or gone meanwhile."""

    def open(self) -> None:
        """Create the folder, or count the files in it.

        Raises:
            OSError: it cannot be created or read.
        """
        make_private(self.folder)
        self._sweep()

    def sweep(self) -> None:
        """Remove what expired, and count what other processes added and removed."""
        try:
            self._sweep()
        except OSError as e:
            log.warning("cannot read %s: %s", self.folder, e.strerror or e)

    def write(self, key: str, size: int, files: tuple[bytes, ...], pins: AnswerPins) -> bool:
        """Write an entry of `size` bytes that is kept at least until `pins` are released.

        Returns False if there is no room for it, whatever else is evicted.

        Raises:
            OSError: it cannot be written; nothing of it is left.
        """
        now = time.time()
        kept = KeptFile(size=size, written_at=now, expires_at=now + self.expiry_s)
        evicted = self.ledger.reserve(key, kept)
        if evicted is None:
            return False
        for old in evicted:
            self._remove(old)
        try:
            *others, last = zip(self.paths(key), files, strict=True)
            for path, data in others:  # an entry without its last file is none
                with open(path, "xb", opener=_private) as file:
                    file.write(data)
            with atomic_file(last[0], mode=PRIVATE_FILE) as file:
                file.write(last[1])
        except BaseException:
            self.forget(key)
            raise
        pins.add(self.ledger, key)
        return True

    def forget(self, key: str) -> None:
        """Remove an entry; errors are only logged."""
        self.ledger.drop(key)
        self._remove(key)

    def _remove(self, key: str) -> None:
        for path in self.paths(key):
            _unlink(path)

    def _sweep(self) -> None:
        before = self.ledger.keys()
        names = {path.name for path in self.folder.iterdir()}
        complete = set(self.complete(names))
        found = {key: file for key in sorted(complete - before) if (file := self.read(key)) is not None}
        damaged = complete - before - found.keys()
        for key in self.ledger.adopt(found, before - complete):
            self._remove(key)
        for key in self.ledger.expired(time.time()):
            self.forget(key)
        self._remove_stale(
            [*self.incomplete(names), *(path.name for key in damaged for path in self.paths(key))]
        )

    def _remove_stale(self, names: list[str]) -> None:
        oldest = time.time() - STALE_S
        for path in (self.folder / name for name in names):
            try:
                if path.stat().st_mtime < oldest:
                    _unlink(path)
            except FileNotFoundError:
                continue


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)


def _unlink(path: Path) -> None:
    """Remove a file; errors are only logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        log.warning("%s cannot be removed: %s", path, e.strerror or e)
