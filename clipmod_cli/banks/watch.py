"""Banks of a service, read again when their files change."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Final, Self, TypeAlias

from clipmod_cli.banks.bank import NO_BANKS, Banks, BankSpec
from clipmod_cli.errors import BankError

log = logging.getLogger(__name__)

CHECK_EVERY_S: Final = 2.0
"""How often the files are looked at, at most."""

_State: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Of each file its inode, size and modification time; None if it is missing."""


class BankWatch:
    """The banks as their files are now. Safe to use from any thread.

    A file that is broken or missing changes nothing: the banks that were read last stay in force, and the log
    says so once for each change.
    """

    def __init__(self, specs: Sequence[BankSpec], banks: Banks, state: _State) -> None:
        self._specs, self._banks, self._state = specs, banks, state
        self._next = time.monotonic() + CHECK_EVERY_S
        self._reading = threading.Lock()

    @classmethod
    def open(cls, specs: Sequence[BankSpec]) -> Self:
        """Return the banks of the files.

        Raises:
            BankError: one cannot be read, is broken or is empty.
        """
        state = _state_of(specs)
        return cls(specs, Banks.read(specs), state)

    def current(self) -> Banks:
        """Return the banks; while a thread reads changed files, the others get what was there before."""
        if self._specs and time.monotonic() >= self._next and self._reading.acquire(blocking=False):
            try:
                self._read_changed()
            finally:
                self._next = time.monotonic() + CHECK_EVERY_S
                self._reading.release()
        return self._banks

    def _read_changed(self) -> None:
        state = _state_of(self._specs)
        if state == self._state:
            return
        self._state = state
        try:
            self._banks = Banks.read(self._specs)
        except BankError as e:
            log.error("%s. The banks that were read before stay in force", e)  # noqa: TRY400 - no bug
        else:
            log.info("the banks were read again: %s", ", ".join(bank.name for bank in self._banks.banks))


def _state_of(specs: Sequence[BankSpec]) -> _State:
    found: list[tuple[int, int, int] | None] = []
    for spec in specs:
        try:
            status = os.stat(spec.path)  # noqa: PTH116
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


UNWATCHED: Final = BankWatch((), NO_BANKS, ())
"""No banks."""
