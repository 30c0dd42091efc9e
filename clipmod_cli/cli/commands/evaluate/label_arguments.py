"""The options of labels, as all commands that read labels have them."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

PANEL = "Labels"

Labels: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--labels",
        metavar="LABELS",
        help="A folder a class, a table with sha256 or source, and label, or decisions of `review`; "
        "repeatable.",
        rich_help_panel=PANEL,
    ),
]
LabelMap: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--label-map",
        metavar="FILE",
        help="TOML that maps labels to categories, NSFW or Safe; false leaves a label out.",
        rich_help_panel=PANEL,
    ),
]
LabelColumn: TypeAlias = Annotated[
    str,
    typer.Option(
        "--label-column",
        metavar="NAME",
        help="The column of a table that holds the label [label].",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Root: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="FOLDER",
        help="The folder that relative paths of labels and records are in.",
        rich_help_panel=PANEL,
    ),
]
AllowUnmatched: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-unmatched", help="Go on with under 95 % of the labels matched.", rich_help_panel=PANEL
    ),
]
