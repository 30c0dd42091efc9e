"""One style for every wrong call: `clipmod: error: ...` on stderr, and where to read on."""

from __future__ import annotations

from typing import Any

import typer

from clipmod_cli.cli.terminal.stdout import plain, say


def print_error(message: str) -> None:
    """Print why the command failed."""
    say(f"clipmod: error: {message}")


def print_parser_error(error: typer.TyperException) -> None:
    """Print a fault of the parser: an unknown option or command, a missing or wrong value."""
    message = plain(_message(error))
    print_error(message[:1].lower() + message[1:])
    context: Any = getattr(error, "ctx", None)
    if context is not None:
        say(f"Try '{context.command_path} --help'.")


def _message(error: typer.TyperException) -> str:
    possible: Any = getattr(error, "possibilities", None)
    if not possible:
        return error.format_message()
    return f"{error.message}. Did you mean {' or '.join(sorted(possible))}?"
