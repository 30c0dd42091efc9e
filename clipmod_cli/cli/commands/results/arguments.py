"""Arguments that the commands over outputs share, and what they say of what was left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeAlias

import typer

Records: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="RECORDS",
        help="Outputs of `clipmod scan` or `urls`: JSON Lines, also .gz or .zst, or Parquet; - reads stdin.",
        show_default=False,
    ),
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace a file of this name.")]
Null: TypeAlias = Annotated[bool, typer.Option("-0", "--null", help="End each path with NUL, for xargs -0.")]


def say_notes(notes: Iterable[str]) -> None:
    """Write what was left out of the outputs to stderr."""
    for note in notes:
        typer.echo(f"clipmod: warning: {note}", err=True)
