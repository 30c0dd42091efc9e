"""The `clipmod` command, also as `python -m clipmod_cli`: Ctrl-C while it starts ends it with one line."""

from __future__ import annotations

import os
import signal


def stop_at_once(*_: object) -> None:
    """End the process on SIGINT. An exception could abort an import of a library, or be lost in one."""
    os.write(2, b"\nclipmod: stopped\n" if os.isatty(2) else b"clipmod: stopped\n")
    os._exit(130)


def run() -> None:
    """Run the command line and exit."""
    # `nohup` and `&` of some shells ignore it
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop_at_once)
    from clipmod_cli.cli.main import run as run_command_line

    run_command_line()


if __name__ == "__main__":
    run()
