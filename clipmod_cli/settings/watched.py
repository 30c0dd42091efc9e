"""Values that are read from files, and read again when the files change."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from clipmod_cli.errors import ClipmodError, UsageError

log = logging.getLogger(__name__)

T = TypeVar("T")

_State: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Of each file its inode, size and modification time; None if it is missing."""


class Watched(Generic[T]):
    """A value as its files are now. Safe to use from any thread.

    Files that are broken or missing change nothing: what was read last stays in force, and the log says so
    once for each change. Paths are followed each time, so that a link may come to point elsewhere.
    """

    def __init__(self, what: str, paths: Sequence[str | Path], read: Callable[[], T], every_s: float) -> None:
        """Read the value for the first time.

        Args:
            what: for messages, as a plural: "the banks".
            paths: the files; with none the value never changes.
            read: reads them; raises ClipmodError, here too.
            every_s: how often the files are looked at, at most.
        """
        self._what, self._paths, self._read, self._every_s = what, paths, read, every_s
        self._state = self._state_now()  # before reading: what changes meanwhile is read again
        self._value = read()
        self._next = time.monotonic() + every_s
        self._reading = threading.Lock()

    def current(self) -> T:
        """Return the value; while a thread reads changed files, the others get what was there before."""
        if self._paths and time.monotonic() >= self._next and self._reading.acquire(blocking=False):
            try:
                self._read_changed()
            finally:
                self._next = time.monotonic() + self._every_s
                self._reading.release()
        return self._value

    def _read_changed(self) -> None:
        state = self._state_now()
        if state == self._state:
            return
        self._state = state
        try:
            self._check_regular()
            self._value = self._read()
        except ClipmodError as e:
            log.error("%s. What was read before stays in force: %s", e, self._what)  # noqa: TRY400 - no bug
        else:
            log.info("%s were read again", self._what)

    def _check_regular(self) -> None:
        """Refuse pipes and devices: reading one may never end, and a request waits for it.

        Raises:
            UsageError: a path leads to one.
        """
        for path in self._paths:
            with suppress(OSError):  # the reader tells what is missing
                mode = os.stat(path).st_mode  # noqa: PTH116
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    raise UsageError(f"{path} is not a regular file")

    def _state_now(self) -> _State:
        return tuple(map(_state_of, self._paths))


def _state_of(path: str | Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
