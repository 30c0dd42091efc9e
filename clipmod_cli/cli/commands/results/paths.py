"""Paths on stdout, for `xargs` and scripts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from clipmod_cli.cli.terminal.stdout import plain
from clipmod_cli.errors import UsageError


def write_paths(paths: Iterable[str], *, null: bool) -> int:
    """Write each path once, one a line; return how many were left out since a newline is in the name.

    Args:
        paths: names that are not UTF-8 hold surrogate escapes; a terminal is shown them escaped.
        null: end each with NUL instead of a newline, and leave none out.
    """
    on_terminal = sys.stdout.isatty()
    newlines = 0
    seen = set[str]()
    for path in paths:
        if path in seen:
            continue
        seen.add(path)
        if "\n" in path and not null:
            newlines += 1
            continue
        shown = plain(path).encode() if on_terminal else os.fsencode(path)
        sys.stdout.buffer.write(shown + (b"\0" if null else b"\n"))
    sys.stdout.flush()
    return newlines


def refuse_newlines(count: int) -> None:
    """Raise UsageError if so many paths were left out since a newline is in the name."""
    if count:
        raise UsageError(f"{count} left out: a newline is in the name. Use -0, as with xargs -0")
