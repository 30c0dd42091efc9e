"""The spool: rows that wait beside the store until they are merged into it.

Its parts are files of whole lines, one kind of rows each, that are sealed to be merged.

`RUN.000000.open` is being written, `RUN.000000.jsonl` is sealed; requests and hosted pictures have
endings of their own. All kinds share one number: what was appended before a moment is in parts
whose number is no greater than that of the parts that were there then.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from clipmod_cli import __version__
from clipmod_cli.records import RunFacts, write_name

PRIVATE_FILE: Final = 0o600  # Names of files and what was found in them are nobody else's business.


class RowKind(Enum):
    """What the lines of a part are; the value is the ending of a sealed one."""

    RECORDS = ".jsonl"
    REQUESTS = ".requests"
    HOSTED = ".hosted"

    @property
    def unsealed(self) -> str:
        """The ending of a part that is being written."""
        return ".open" if self is RowKind.RECORDS else f"{self.value}-open"


KIND_OF: Final = {ending: kind for kind in RowKind for ending in (kind.value, kind.unsealed)}


@dataclass(slots=True)
class _Open:
    path: Path
    kind: RowKind
    descriptor: int
    size: int = 0


class PartsWriter:
    """Appends one run's lines to its open parts; safe to call from several threads."""

    def __init__(self, folder: Path, run_id: str) -> None:
        """Name the parts; none is made before there is a line for it."""
        self._folder = folder
        self._run_id = run_id
        self._mutex = threading.Lock()
        self._open: dict[RowKind, _Open] = {}
        self._number = 0

    def append(self, line: bytes, kind: RowKind) -> None:
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

    def _begin(self, kind: RowKind) -> _Open:
        path = self._folder / f"{self._run_id}.{self._number:06d}{kind.unsealed}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        part = _Open(path, kind, os.open(path, flags, PRIVATE_FILE))
        self._open[kind] = part
        return part


def parts(folder: Path, run_id: str, *, alive: bool) -> list[Path]:
    """Return a run's parts that may be merged, by kind and in order: of a living run sealed ones alone."""
    endings = [kind.value for kind in RowKind] if alive else list(KIND_OF)
    found = [path for path in folder.glob(f"{run_id}.[0-9]*.*") if path.suffix in endings]
    kinds = list(RowKind)
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


PRIVATE_FOLDER: Final = 0o700
RUN_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")  # It becomes part of file names.
ORPHAN_S: Final = 3600.0
# A lock file with nothing beside it is a writer's first moment, or what is left of one that was killed
# in that moment. No first moment lasts an hour.


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What the store knows of a run, beside its records.

    Attributes:
        command: the command line, as a person would type it.
        models: their specs, in order.
        started_at: in UTC.
        ended: how it ended; None while it runs, and for ever if it was killed.
        counts: of inputs, by outcome.
    """

    facts: RunFacts
    command: str
    models: tuple[str, ...]
    started_at: datetime
    finished_at: datetime | None = None
    ended: str | None = None
    exit_code: int | None = None
    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """A run that still writes, and the number of the last part that it had at some moment."""

    run_id: str
    through: int


class SpoolWriter:
    """Appends one run's records; safe to call from several threads."""

    def __init__(self, folder: Path, info: RunInfo) -> None:
        """Claim the run's name and write down what is known of it.

        Raises:
            OSError: the folder cannot be written, or another process writes this very run.
            ValueError: the run's id cannot be part of a file name.
        """
        self._run_id = info.facts.run_id
        if not RUN_ID.fullmatch(self._run_id):
            raise ValueError(f"{self._run_id!r} cannot be a run's id")
        make_private(folder)
        self._folder = folder
        self._info = info
        self._parts = PartsWriter(folder, self._run_id)
        self._lock = lock_file(folder / f"{self._run_id}.lock")
        self._lock.acquire(timeout=0)
        try:
            _write_info(folder, info)
        except BaseException:
            self._lock.release()
            raise

    def append(self, line: bytes, kind: RowKind = RowKind.RECORDS) -> None:
        """Append one whole line, or nothing.

        Raises:
            OSError: it cannot be written, as when the disk is full.
        """
        self._parts.append(line, kind)

    def seal(self) -> None:
        """Give what was appended so far to whoever merges next.

        Raises:
            OSError: a part cannot be sealed; it is merged when the run is over.
        """
        self._parts.seal()

    def close(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Seal the last part, write down how the run ended, and let go of it."""
        ended = replace(
            self._info,
            finished_at=datetime.now(UTC),
            ended="finished",
            exit_code=exit_code,
            counts=dict(counts),
        )
        try:
            self.seal()
            _write_info(self._folder, ended)
        finally:
            self._lock.release()


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can look into, and the folder around it."""
    folder.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def lock_file(path: Path) -> FileLock:
    """Return a lock that any thread may release, in a file that only its owner can read."""
    return FileLock(path, mode=PRIVATE_FILE, thread_local=False)


def run_ids(folder: Path) -> list[str]:
    """Return the runs that have anything in the spool, sorted."""
    waiting = (path for path in folder.iterdir() if path.suffix == ".run" or path.suffix in KIND_OF)
    names = {path.name.partition(".")[0] for path in waiting}
    return sorted(name for name in names if RUN_ID.fullmatch(name))


def living(folder: Path) -> list[LiveRun]:
    """Return the runs that hold something back; to be called after a merge, with the store's lock held."""
    held = ((run_id, last_number(folder, run_id)) for run_id in run_ids(folder))
    return [LiveRun(run_id=run_id, through=number) for run_id, number in held if number is not None]


def info_path(folder: Path, run_id: str) -> Path:
    """Return where a run's own facts are written."""
    return folder / f"{run_id}.run"


@contextmanager
def claim(folder: Path, run_id: str) -> Iterator[bool]:
    """Enter with whether the run's writer is gone; it is kept from coming back meanwhile."""
    lock = lock_file(folder / f"{run_id}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def remove_orphans(folder: Path) -> None:
    """Remove the locks of runs that were killed before they had written anything."""
    known = set(run_ids(folder))
    for path in folder.glob("[!.]*.lock"):
        run_id = path.name.partition(".")[0]
        with suppress(OSError):
            if run_id not in known and time.time() - path.stat().st_mtime > ORPHAN_S:
                with claim(folder, run_id) as gone:
                    if gone:
                        path.unlink()


def _write_info(folder: Path, info: RunInfo) -> None:
    fields = {
        "run_id": info.facts.run_id,
        "run_key": info.facts.run_key,
        "started_at": info.started_at.isoformat(),
        "finished_at": info.finished_at.isoformat() if info.finished_at else None,
        "ended": info.ended,
        "exit_code": info.exit_code,
        "command": write_name(info.command)[0],
        "models": [write_name(model)[0] for model in info.models],
        "policy": info.facts.policy,
        "policy_hash": info.facts.policy_hash,
        "threshold": info.facts.threshold,
        "counts": info.counts,
        "version": __version__,
    }
    path = info_path(folder, info.facts.run_id)
    unfinished = path.with_suffix(".tmp")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(fields, file)
    unfinished.replace(path)
