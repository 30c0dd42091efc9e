"""The spool: a folder beside the statistics database with rows that are still to be merged.

Each run has parts, which are files of whole lines with one kind of row. `RUN.000000.open` is being written,
`RUN.000000.jsonl` is sealed and can be merged; requests and hosted pictures have suffixes of their own. All
kinds share one counter: a part that exists now has a number no greater than that of any later part.
"""

from __future__ import annotations

import errno
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

from clipmod_cli.atomic import atomic_file
from clipmod_cli.output.history.rows import RunInfo, run_line

PRIVATE_FILE: Final = 0o600  # File names and their scores are private to the user.
PRIVATE_FOLDER: Final = 0o700
RUN_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")  # It becomes part of file names.
ORPHAN_S: Final = 3600.0
# A lock file alone belongs to a writer that has just started, or to one that was killed then. Starting never
# takes an hour.


class RowKind(Enum):
    """What the lines of a part are; the value is the suffix of a sealed one."""

    RECORDS = ".jsonl"
    REQUESTS = ".requests"
    HOSTED = ".hosted"

    @property
    def unsealed(self) -> str:
        """The suffix of a part that is being written."""
        return ".open" if self is RowKind.RECORDS else f"{self.value}-open"


KIND_OF: Final = {suffix: kind for kind in RowKind for suffix in (kind.value, kind.unsealed)}


@dataclass(slots=True)
class _OpenPart:
    path: Path
    kind: RowKind
    descriptor: int
    size: int = 0

    def seal(self) -> OSError | None:
        try:
            os.close(self.descriptor)
            self.path.replace(self.path.with_suffix(self.kind.value))
        except OSError as error:
            return error
        return None


class SpoolWriter:
    """Appends one run's rows; safe to call from several threads."""

    def __init__(self, folder: Path, info: RunInfo) -> None:
        """Lock the run's id and write its information; a part is created with its first line.

        Raises:
            OSError: the folder cannot be written, or another process writes this run.
            ValueError: the run's id cannot be part of a file name.
        """
        self._run_id = info.facts.run_id
        if not RUN_ID.fullmatch(self._run_id):
            raise ValueError(f"{self._run_id!r} cannot be a run's id")
        make_private(folder)
        self._folder = folder
        self._info = info
        self._mutex = threading.Lock()
        self._open: dict[RowKind, _OpenPart] = {}
        self._number = 0
        self._lock = lock_file(folder / f"{self._run_id}.lock")
        self._lock.acquire(timeout=0)
        try:
            _write_info(folder, info)
        except BaseException:
            self._lock.release()
            raise

    def append(self, line: bytes, kind: RowKind) -> None:
        """Append one whole line, or nothing.

        Raises:
            OSError: it cannot be written, for example because the disk is full.
        """
        with self._mutex:
            part = self._open.get(kind) or self._create_part(kind)
            if os.write(part.descriptor, line) != len(line):
                os.ftruncate(part.descriptor, part.size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
            part.size += len(line)

    def seal(self) -> None:
        """Close the open parts, so that they can be merged.

        Raises:
            OSError: a part cannot be sealed; it is merged when the run is over.
        """
        with self._mutex:
            if not self._open:
                return
            parts = list(self._open.values())
            self._open.clear()
            self._number += 1
            errors = [error for part in parts if (error := part.seal()) is not None]
        if errors:
            raise errors[0]

    def close(self, counts: Mapping[str, int], exit_code: int) -> None:
        """Seal the last parts, write how the run ended, and release its lock."""
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

    def _create_part(self, kind: RowKind) -> _OpenPart:
        path = self._folder / f"{self._run_id}.{self._number:06d}{kind.unsealed}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        part = _OpenPart(path, kind, os.open(path, flags, PRIVATE_FILE))
        self._open[kind] = part
        return part


def parts(folder: Path, run_id: str, *, active: bool) -> list[Path]:
    """Return a run's parts that can be merged, by kind and number: only sealed ones of an active run."""
    suffixes = [kind.value for kind in RowKind] if active else list(KIND_OF)
    found = [path for path in folder.glob(f"{run_id}.[0-9]*.*") if path.suffix in suffixes]
    kinds = list(RowKind)
    return sorted(found, key=lambda path: (kinds.index(KIND_OF[path.suffix]), path))


def number_of(part: Path) -> int:
    """Return a part's number in its run."""
    return int(part.name.split(".")[1])


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can read, and its parent."""
    folder.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def lock_file(path: Path) -> FileLock:
    """Return a lock that any thread may release, in a file that only its owner can read."""
    return FileLock(path, mode=PRIVATE_FILE, thread_local=False)


def run_ids(folder: Path) -> list[str]:
    """Return the runs that have files in the spool, sorted."""
    files = (path for path in folder.iterdir() if path.suffix == ".run" or path.suffix in KIND_OF)
    names = {path.name.partition(".")[0] for path in files}
    return sorted(name for name in names if RUN_ID.fullmatch(name))


def active_runs(folder: Path) -> dict[str, int]:
    """Return the number of the last unmerged part by run. Call it after a merge, with the merge lock held."""
    found = {}
    for run_id in run_ids(folder):
        # Twice, since a part may be missed under both names if it is renamed while the folder is read.
        paths = {path for _ in range(2) for path in parts(folder, run_id, active=False)}
        if paths:
            found[run_id] = max(map(number_of, paths))
    return found


def info_path(folder: Path, run_id: str) -> Path:
    """Return the file with a run's information."""
    return folder / f"{run_id}.run"


@contextmanager
def try_lock_run(folder: Path, run_id: str) -> Iterator[bool]:
    """Enter with whether the run's lock could be taken, which means that its writer has ended."""
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
                with try_lock_run(folder, run_id) as ended:
                    if ended:
                        path.unlink()


def _write_info(folder: Path, info: RunInfo) -> None:
    path = info_path(folder, info.facts.run_id)
    with atomic_file(path, mode=PRIVATE_FILE) as file:
        file.write(run_line(info))
