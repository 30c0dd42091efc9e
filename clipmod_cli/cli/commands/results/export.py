"""`clipmod export`: records as a table for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipmod_cli.cli.commands.results.arguments import Overwrite, Records, say_notes

if TYPE_CHECKING:
    from clipmod_cli.output.export import ExportResult

EXAMPLES = """
\b
Examples:
  clipmod export results.jsonl -o results.csv
  clipmod export results.jsonl -o short.csv --columns source,unsafe_score
  clipmod export monday.jsonl tuesday.jsonl.zst -o week.parquet
  jq -c 'select(.needs_review)' results.jsonl | clipmod export - -o x.csv
"""


def export(
    *,
    records: Records,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="A .csv, .parquet, .jsonl, .jsonl.gz or .jsonl.zst file; it appears when it is complete.",
            show_default=False,
        ),
    ],
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="A,B,...",
            help="Only these columns, in this order. By default a .csv has all that fit into a cell, a "
            ".parquet all, and .jsonl the records as they are.",
        ),
    ] = None,
    raw_csv: Annotated[
        bool,
        typer.Option(
            "--raw-csv",
            help="Write texts that begin with =, +, - or @ as they are. A spreadsheet runs them as formulas, "
            "so by default they get a ' in front.",
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write records as CSV, Parquet or JSON Lines for other programs, one row for each input."""
    from clipmod_cli.cli.output_paths import check_result_path
    from clipmod_cli.output.export import ExportOptions, format_of
    from clipmod_cli.output.export import export as write
    from clipmod_cli.output.reading.records import open_records

    names = [name.strip() for name in (columns or "").split(",") if name.strip()]
    format_of(output)
    check_result_path(output, records, overwrite=overwrite)
    with open_records(records) as reader:
        say_notes(reader.notes)
        _say(write(reader, output, ExportOptions(columns=names, raw_csv=raw_csv)), output)


def _say(result: ExportResult, output: Path) -> None:
    if result.escaped:
        cells = "1 cell begins" if result.escaped == 1 else f"{result.escaped:,} cells begin"
        typer.echo(
            f"clipmod: {cells} like a formula, which spreadsheets run, and got a ' in front (--raw-csv: not)",
            err=True,
        )
    if result.left_out:
        typer.echo(f"Not in a CSV unless --columns names them: {', '.join(result.left_out)}.", err=True)
    noun = "record" if result.records == 1 else "records"
    typer.echo(f"{result.records:,} {noun} written to {output}", err=True)
