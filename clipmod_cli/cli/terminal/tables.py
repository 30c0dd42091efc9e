"""Tables of text for a terminal or a pipe. Markup and control characters in their texts have no effect."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clipmod_cli.cli.terminal.stdout import plain

PIPE_COLUMNS: Final = 160  # for a pipe or a file; a command stays on one line
NUMBERS: Final = frozenset(
    {"inputs", "share", "NSFW", "review", "errors", "mean ms", "p95 ms", "inputs/s", "requests", "images"}
    | {"ms an image", "spread", "images/s", "ms alone", "GFLOP", "of the peak"}
)  # columns that are aligned to the right


def table_of(
    names: Iterable[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, head: bool = True
) -> Table:
    """Return a table; None is shown as an empty cell."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
        show_header=head,
    )  # fmt: skip
    for name in names:
        table.add_column(Text(plain(name)), justify="right" if name in NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else plain(str(value))) for value in row))
    return table


class TableConsole(Console):
    """A console that leaves a closed pipe to the command; rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, as whatever else writes to stdout does."""
        raise BrokenPipeError


def stdout_console() -> Console:
    """Return a console on stdout; it replaces what the locale cannot encode."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = TableConsole(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    return console
