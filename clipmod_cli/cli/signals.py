"""SIGINT, SIGTERM and SIGHUP: the first one stops the run, a second Ctrl-C ends the process."""

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

from clipmod_cli.errors import ExitCode

if TYPE_CHECKING:
    from socket import socket

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # fmt: skip
STOPPING = "clipmod: stopping when the batch in flight is finished; Ctrl-C stops at once"


class Interrupted(BaseException):
    """A signal came while nothing was in flight; carries the exit code."""

    def __init__(self, exit_code: ExitCode) -> None:
        """Keep the exit code."""
        super().__init__(exit_code)
        self.exit_code = exit_code


@dataclass
class StopRequest:
    """Whether a signal has requested the run to stop.

    Attributes:
        exit_code: of the first signal; OK before it.
        in_flight: there are results to finish, so a first signal only sets `exit_code`. Otherwise its
            handler raises `Interrupted`.
        exit: ends the process, given the exit code; set while raising is unsafe: an exception in an
            import of a library can abort the process, and is delayed by a call that takes minutes.
    """

    exit_code: ExitCode = ExitCode.OK
    in_flight: bool = False
    exit: Callable[[ExitCode], None] | None = None
    _exit_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def requested(self) -> bool:
        """Return whether a signal has come."""
        return self.exit_code != ExitCode.OK

    def handle(self, number: int, _: FrameType | None) -> None:
        """Handle the first signal; later ones have no effect here.

        Raises:
            Interrupted: if nothing is in flight.
        """
        if self.requested():
            return
        self.exit_code = ExitCode.of_signal(number)
        if not self.in_flight and self.exit is None:
            raise Interrupted(self.exit_code)

    @contextmanager
    def exiting_with(self, exit_process: Callable[[ExitCode], None]) -> Iterator[None]:
        """Have the signal thread call `exit_process` on a signal; leaving the context waits for that call."""
        self.exit = exit_process
        try:
            yield
        finally:
            with self._exit_lock:
                self.exit = None

    def try_exit(self, exit_code: ExitCode) -> bool:
        """Call `exit` if it is set; return whether it was."""
        with self._exit_lock:
            if (exit_process := self.exit) is None:
                return False
            exit_process(exit_code)
            return True


def caught_signals() -> list[signal.Signals]:
    """Return the signals that stop a command; under nohup SIGHUP is ignored, and stays so."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Give a `StopRequest` that signals set while the context lasts; a second Ctrl-C ends the process."""
    stop = StopRequest()
    with _signal_thread(stop):
        before = {number: signal.signal(number, stop.handle) for number in caught_signals()}
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _signal_thread(stop: StopRequest) -> Iterator[None]:
    """Run a thread that reads each signal from a wakeup socket while the context lasts.

    Python's handlers run only after the current forward pass, which can take minutes, and see two
    signals within it as one.
    """
    from socket import socketpair

    receiver, sender = socketpair()
    sender.setblocking(False)  # noqa: FBT003 — the library has it so
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_read_signals, args=(receiver, stop), name="clipmod-signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        sender.close()


def _read_signals(receiver: socket, stop: StopRequest) -> None:
    first = True
    with receiver:
        while byte := receiver.recv(1):
            number = byte[0]
            if number not in SIGNALS:  # SIGWINCH, for example
                continue
            code = ExitCode.of_signal(number)
            if not first and number == signal.SIGINT:
                os._exit(code)  # every record written so far is complete
            if first and not stop.try_exit(code) and stop.in_flight:
                print(f"\n{STOPPING}" if sys.stderr.isatty() else STOPPING, file=sys.stderr)  # noqa: T201
            first = False
