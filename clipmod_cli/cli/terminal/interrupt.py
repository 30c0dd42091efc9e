"""Ctrl-C while clipmod starts: ends the process with one line. Imports next to nothing, to be there first."""

from __future__ import annotations

import os
import signal


def exit_on_interrupt() -> None:
    """Have SIGINT end the process at once, unless it is ignored (as for background jobs of scripts)."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _exit)


def raise_on_interrupt() -> None:
    """Have SIGINT raise KeyboardInterrupt again, after `exit_on_interrupt`."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit(*_: object) -> None:
    # an exception could abort an import of a library, or be lost in one
    os.write(2, b"\nclipmod: stopped\n" if os.isatty(2) else b"clipmod: stopped\n")
    os._exit(130)
