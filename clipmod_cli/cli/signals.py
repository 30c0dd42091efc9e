"""Ctrl-C once and twice, SIGTERM and SIGHUP: ask the line to stop, or stop at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socket import socket

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
"""128 + the signal's number, as shells report a process that a signal ended."""

EXIT_CLOSED_PIPE = 141
STOPPING = "clipmod: stopping when the batch in flight is finished; Ctrl-C stops at once"


class Interrupted(BaseException):
    """A signal came while nothing was in flight; carries the exit code."""

    def __init__(self, exit_code: int) -> None:
        """Keep the exit code."""
        super().__init__(exit_code)
        self.exit_code = exit_code


@dataclass
class StopRequest:
    """Whether the run has been asked to stop, and what exit code says by whom.

    Attributes:
        in_flight: there are results to finish, so a first signal only asks. Otherwise it ends
            the run where it is.
        at_once: ends the process, given the exit code. Set while raising is no way to end: an
            exception in the midst of a library's import can abort the process, and is late where
            a call takes minutes.
    """

    exit_code: int = 0
    in_flight: bool = False
    at_once: Callable[[int], None] | None = None
    _ending: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def asked(self) -> bool:
        """Return whether a signal has come."""
        return self.exit_code != 0

    def handle(self, number: int, _: FrameType | None) -> None:
        """Take a signal: ask, or end the run where it is. What comes after the first asks nothing more."""
        if self.exit_code:
            return
        self.exit_code = EXIT_CODES[signal.Signals(number).name]
        if not self.in_flight and self.at_once is None:
            raise Interrupted(self.exit_code)

    @contextmanager
    def ending_by(self, end: Callable[[int], None]) -> Iterator[None]:
        """Have a thread of its own end the process by `end` if a signal comes within the context.

        Whatever leaves the context once that has begun waits for it: it would only meet what is half gone.
        """
        self.at_once = end
        try:
            yield
        finally:
            with self._ending:
                self.at_once = None

    def end_at_once(self, exit_code: int) -> bool:
        """End the process if that is how it is to end now; return whether it was."""
        with self._ending:
            if (end := self.at_once) is None:
                return False
            end(exit_code)
            return True


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Give a `StopRequest` that signals set while the context lasts; a second Ctrl-C ends the process."""
    stop = StopRequest()
    known = [s for name in EXIT_CODES if (s := getattr(signal, name, None)) is not None]
    # nohup means that a hang-up is to be ignored, and so it stays.
    taken = [s for s in known if signal.getsignal(s) is not signal.SIG_IGN]
    with _watch_for_impatience(stop):
        before = {s: signal.signal(s, stop.handle) for s in taken}
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _watch_for_impatience(stop: StopRequest) -> Iterator[None]:
    """End the process at the second signal, if that is Ctrl-C, while the context lasts.

    A thread of its own is told of each signal as it comes. The handlers are not: they wait for
    the end of a forward pass, which can take minutes, and two signals within it are one to them.
    """
    from socket import socketpair

    receiver, sender = socketpair()
    sender.setblocking(False)  # noqa: FBT003 — the library has it so
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(
        target=_end_at_the_second, args=(receiver, stop), name="clipmod-signals", daemon=True
    ).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        sender.close()


def _end_at_the_second(receiver: socket, stop: StopRequest) -> None:
    asked = False
    with receiver:
        while byte := receiver.recv(1):
            name = signal.Signals(byte[0]).name
            if name not in EXIT_CODES:
                continue  # others, as SIGWINCH, ask for nothing
            if asked and name == "SIGINT":
                os._exit(EXIT_CODES[name])  # every record written so far is whole
            if not asked and not stop.end_at_once(EXIT_CODES[name]) and stop.in_flight:
                print(f"\n{STOPPING}" if sys.stderr.isatty() else STOPPING, file=sys.stderr)  # noqa: T201
            asked = True
