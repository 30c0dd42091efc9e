"""The spool's parts: files of whole lines, one kind of rows each, that are sealed to be merged.

`RUN.000000.open` is being written, `RUN.000000.jsonl` is sealed; requests and hosted pictures have
endings of their own. All kinds share one number: what was appended before a moment is in parts
whose number is no greater than that of the parts that were there then.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

PRIVATE_FILE: Final = 0o600  # Names of files and what was found in them are nobody else's business.


class Kind(Enum):
    """What the lines of a part are; the value is the ending of a sealed one."""

    RECORDS = ".jsonl"
    REQUESTS = ".requests"
    HOSTED = ".hosted"

    @property
    def unsealed(self) -> str:
        """The ending of a part that is being written."""
        return ".open" if self is Kind.RECORDS else f"{self.value}-open"


KIND_OF: Final = {ending: kind for kind in Kind for ending in (kind.value, kind.unsealed)}


@dataclass(slots=True)
class _Open:
    path: Path
    kind: Kind
    descriptor: int
    size: int = 0


class PartsWriter:
    """Appends one run's lines to its open parts; safe to call from several threads."""

    def __init__(self, folder: Path, run_id: str) -> None:
        """Name the parts; none is made before there is a line for it."""
        self._folder = folder
        self._run_id = run_id
        self._mutex = threading.Lock()
        self._open: dict[Kind, _Open] = {}
        self._number = 0

    def append(self, line: bytes, kind: Kind) -> None:
        """Append one whole line, or nothing.

        Raises:
            OSError: it cannot be written, as when the disk is full.
        """
        with self._mutex:
            part = self._open.get(kind) or self._begin(kind)
            if os.write(part.descriptor, line) != len(line):
                os.ftruncate(part.descriptor, part.size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
            part.size += len(line)

    def seal(self) -> None:
        """Give what was appended so far to whoever merges next.

        Raises:
            OSError: a part cannot be sealed; it is merged when the run is over.
        """
        with self._mutex:
            if not self._open:
                return
            sealed = list(self._open.values())
            self._open.clear()
            self._number += 1
            faults = [fault for part in sealed if (fault := _seal(part)) is not None]
        if faults:
            raise faults[0]

    def _begin(self, kind: Kind) -> _Open:
        path = self._folder / f"{self._run_id}.{self._number:06d}{kind.unsealed}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        part = _Open(path, kind, os.open(path, flags, PRIVATE_FILE))
        self._open[kind] = part
        return part


def parts(folder: Path, run_id: str, *, alive: bool) -> list[Path]:
    """Return a run's parts that may be merged, by kind and in order: of a living run sealed ones alone."""
    endings = [kind.value for kind in Kind] if alive else list(KIND_OF)
    found = [path for path in folder.glob(f"{run_id}.[0-9]*.*") if path.suffix in endings]
    kinds = list(Kind)
    return sorted(found, key=lambda path: (kinds.index(KIND_OF[path.suffix]), path))


def number_of(part: Path) -> int:
    """Return a part's number in its run."""
    return int(part.name.split(".")[1])


def last_number(folder: Path, run_id: str) -> int | None:
    """Return the greatest number of a run's parts, open ones too; None if there are none."""
    # Twice, since a part that is being renamed while its folder is read may be seen under neither name.
    found = {path for _ in range(2) for path in parts(folder, run_id, alive=False)}
    return max((number_of(path) for path in found), default=None)


def _seal(part: _Open) -> OSError | None:
    try:
        os.close(part.descriptor)
        part.path.replace(part.path.with_suffix(part.kind.value))
    except OSError as error:
        return error
    return None
