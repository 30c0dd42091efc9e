"""`clipmod report`: one HTML file that shows what was found, without sharp pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipmod_cli.cli.commands.results.arguments import Overwrite, Records, say_notes

if TYPE_CHECKING:
    from clipmod_cli.review.sheet import Finding, Sheet
    from clipmod_cli.review.thumbnails import Thumbnail

EXAMPLES = """
\b
Examples:
  clipmod report results.jsonl -o sheet.html
  clipmod report results.jsonl -o sheet.html --all --limit 2000
  clipmod report monday.jsonl tuesday.jsonl -o week.html --no-pictures
"""


def report(
    *,
    records: Records,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE.html", help="The file to write.", show_default=False),
    ],
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="List at most so many inputs, the worst first.")
    ] = 500,
    everything: Annotated[
        bool, typer.Option("--all", help="List Safe inputs too; otherwise they are counted only.")
    ] = False,
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--pictures/--no-pictures",
            help="Put grey, blurred pictures into the file.  [on]",
            show_default=False,
        ),
    ] = True,
    overwrite: Overwrite = False,
) -> None:
    """Write what was found as one HTML file: counts, and a sheet of inputs, the worst first.

    The pictures in it are grey and blurred so far that they cannot be made sharp. Ticking some gives a list
    of their paths to copy. It has no script and needs no network.
    """
    from clipmod_cli.cli.output_paths import check_result_path
    from clipmod_cli.errors import UsageError
    from clipmod_cli.output.reading.records import open_records
    from clipmod_cli.review.sheet import OUTCOMES, SHOWN, read_sheet

    if output.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"-o must end in .html, not {output.name!r}")
    check_result_path(output, records, overwrite=overwrite)
    with open_records(records) as reader:
        say_notes(reader.notes)
        sheet = read_sheet(reader, limit=limit, outcomes=OUTCOMES if everything else SHOWN)
    missing = _write(sheet, output, thumbnails=thumbnails)
    left = sum(sheet.left_out(outcome) for outcome in (OUTCOMES if everything else SHOWN))
    if left:
        typer.echo(f"{left:,} more are counted and not listed (--limit {limit}).", err=True)
    if missing:
        noun = "file is" if missing == 1 else "files are"
        typer.echo(
            f"{missing:,} listed {noun} gone. Without a run card beside the output, paths are relative to "
            "this folder.",
            err=True,
        )
    typer.echo(f"{len(sheet.findings):,} of {sheet.total:,} inputs listed in {output}", err=True)


def _write(sheet: Sheet, output: Path, *, thumbnails: bool) -> int:
    """Write the page; return how many files are gone."""
    from clipmod_cli.atomic import atomic_file
    from clipmod_cli.errors import OutputError
    from clipmod_cli.review.page import page_of
    from clipmod_cli.review.thumbnails import GONE, Thumbnail, thumbnails_of

    bare = ((finding, Thumbnail(note="left out (--no-pictures)")) for finding in sheet.findings)
    gone = 0

    def counted(items: Iterable[tuple[Finding, Thumbnail]]) -> Iterable[tuple[Finding, Thumbnail]]:
        nonlocal gone
        for finding, thumbnail in items:
            gone += thumbnail.note == GONE
            yield finding, thumbnail

    try:
        with atomic_file(output, sync=True) as file:
            for piece in page_of(sheet, counted(thumbnails_of(sheet.findings) if thumbnails else bare)):
                file.write(piece.encode())
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    return gone
