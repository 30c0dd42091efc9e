"""Appends one run's rows to its own file, and begins a new file when it is told to."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

from clipmod_cli.output.history.folder import PRIVATE_FILE, RUN_ID, journal_path, make_private, run_lock
from clipmod_cli.output.history.rows import RunInfo, run_line

LONGEST_LINE: Final = 1 << 25
"""Bytes of a line. DuckDB refuses the whole file if one is longer; 10,000 frames in detail are about 5 MB."""

CHECKED_BYTES: Final = 1 << 14
"""Of a test append: more than one block of a disk, since the last one of a file may have room."""


class RunWriter:
    """Appends rows; safe to call from several threads.

    Attributes:
        rows: how many the open journal has.
    """

    def __init__(self, folder: Path, info: RunInfo) -> None:
        """Lock the run's id and create its first journal.

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
        self._number = 0
        self._lock = run_lock(folder, self._run_id)
        self._lock.acquire(timeout=0)
        try:
            self._journal = _Journal(journal_path(folder, self._run_id, 0), run_line(info))
        except BaseException:
            self._lock.release()
            raise
        self.rows = 0

    def append(self, line: bytes) -> None:
        """Append one whole line, or nothing.

        Raises:
            OSError: it cannot be written, for example because the disk is full.
        """
        if len(line) > LONGEST_LINE:
            raise OSError(errno.EFBIG, f"a row of {len(line):,} bytes is too long for the statistics")
        with self._mutex:
            self._journal.append(line)
            self.rows += 1

    def check(self) -> None:
        """Append some spaces, and remove them again.

        Raises:
            OSError: they cannot be written, for example because the disk is full.
        """
        with self._mutex:
            self._journal.check()

    @property
    def journal(self) -> str:
        """The name of the open journal."""
        return self._journal.path.name

    def hide_command(self) -> None:
        """Write the command line no more: it contains a name that was erased."""
        self._info = replace(self._info, command=None)

    def roll(self) -> None:
        """Begin a new journal. Nothing is appended to the one before from now on.

        Raises:
            OSError: the new journal cannot be created; rows go on to the old one.
        """
        with self._mutex:
            fresh = _Journal(journal_path(self._folder, self._run_id, self._number + 1), run_line(self._info))
            self._journal.close()
            self._journal = fresh
            self._number += 1
            self.rows = 0

    def close(self, ended: RunInfo) -> None:
        """Write how the run ended, and release its lock.

        Raises:
            OSError: that cannot be written, or the journal was removed meanwhile.
        """
        with self._mutex:
            try:
                self._info = replace(ended, command=self._info.command)
                self._journal.append(run_line(self._info))
                self._journal.path.stat()
            finally:
                self._journal.close()
                self._lock.release()


class _Journal:
    """One file of whole lines."""

    def __init__(self, path: Path, first: bytes) -> None:
        """Create the file, which has its first line from the beginning.

        Raises:
            OSError: it cannot be created or written; nothing is left.
        """
        self.path = path
        self._size = 0
        self._torn = False
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        unfinished = path.with_name(f".{path.name}.part")
        self._descriptor = os.open(
            unfinished, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE
        )
        try:
            self.append(first)
            unfinished.rename(path)
        except BaseException:
            self.close()
            unfinished.unlink(missing_ok=True)
            raise

    def append(self, line: bytes) -> None:
        if self._torn:  # what could not be cut off ends here, and is filtered by readers
            line = b"\n" + line
            self._size = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, line) != len(line):
            self._cut()
        self._torn = False
        self._size += len(line)

    def check(self) -> None:
        self._size = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, b" " * CHECKED_BYTES)
        os.ftruncate(self._descriptor, self._size)
        if written != CHECKED_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        os.close(self._descriptor)

    def _cut(self) -> None:
        was_torn, self._torn = self._torn, True
        os.ftruncate(self._descriptor, self._size)
        self._torn = was_torn
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
