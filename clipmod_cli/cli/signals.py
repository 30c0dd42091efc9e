"""Ctrl-C once and twice, SIGTERM and SIGHUP: ask the line to stop, or stop at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
"""128 + the signal's number, as shells report a process that a signal ended."""

EXIT_CLOSED_PIPE = 141


class Interrupted(BaseException):
    """A signal came while nothing was in flight; carries the exit code."""

    def __init__(self, exit_code: int) -> None:
        """Keep the exit code."""
        super().__init__(exit_code)
        self.exit_code = exit_code


@dataclass
class Stop:
    """Whether the run has been asked to stop, and what exit code says by whom.

    Attributes:
        in_flight: there are results to finish, so a first signal only asks. Otherwise it ends
            the run where it is.
    """

    exit_code: int = 0
    in_flight: bool = False

    def asked(self) -> bool:
        """Return whether a signal has come."""
        return self.exit_code != 0

    def handle(self, number: int, _: FrameType | None) -> None:
        """Take a signal; the second Ctrl-C stops at once (every record written so far is whole)."""
        code = EXIT_CODES[signal.Signals(number).name]
        if self.exit_code and number == signal.SIGINT:
            os._exit(code)
        self.exit_code = self.exit_code or code
        if not self.in_flight:
            raise Interrupted(self.exit_code)


@contextmanager
def catch_signals() -> Iterator[Stop]:
    """Give a `Stop` that signals set while the context lasts."""
    stop = Stop()
    known = [s for name in EXIT_CODES if (s := getattr(signal, name, None)) is not None]
    # nohup means that a hang-up is to be ignored, and so it stays.
    taken = [s for s in known if signal.getsignal(s) is not signal.SIG_IGN]
    before = {s: signal.signal(s, stop.handle) for s in taken}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
