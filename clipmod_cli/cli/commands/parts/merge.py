"""`clipmod merge`: the records of all parts in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
\b
Examples:
  clipmod merge OUT/ -o all.jsonl     in the order of the input
  clipmod merge OUT/ -o all.parquet   a tenth of the size
  clipmod merge OUT/ -o all.csv       for spreadsheets
"""


def merge(
    folder: Annotated[str, typer.Argument(metavar="OUT/", help="the -o of a run in parts")],
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="write to this file; its ending chooses the format as in scan",
        ),
    ],
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="also while parts are missing")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file")] = False,
) -> None:
    """Write the records of all parts into one file, in the order of the input."""
    from clipmod_cli.atomic import remove_unfinished
    from clipmod_cli.cli.terminal.summary import command_line
    from clipmod_cli.errors import UsageError
    from clipmod_cli.output.base import write_output
    from clipmod_cli.output.lock import OutputLock
    from clipmod_cli.output.resuming.card import RunCard
    from clipmod_cli.output.resuming.names import folders_in, working_directory
    from clipmod_cli.output.resuming.resume import RunConditions
    from clipmod_cli.parts.merge import merged_lines
    from clipmod_cli.parts.overview import ranges, read_overview
    from clipmod_cli.parts.store import open_part_store

    _check_output(output, Path(folder), overwrite=overwrite)
    store = open_part_store(folder)
    overview = read_overview(store)
    if overview.missing and not allow_missing:
        raise UsageError(
            f"{len(overview.missing):,} of {overview.run.parts:,} parts are missing: "
            f"{ranges(overview.missing)}. Judge them by the command that planned {folder}, or --allow-missing"
        )
    with OutputLock(output):
        remove_unfinished(output)
        run, card = overview.run, RunCard.read(output)
        count = write_output(merged_lines(store, overview), output)
        directory = None if run.command == "urls" else run.directory
        is_here = directory == working_directory()  # else its relative names are none of this process
        conditions = RunConditions(
            directory=directory, folders=folders_in(run.inputs["sources"] if is_here else ())
        )
        runs = dict.fromkeys(part.run_id for part in overview.done)
        card.merge(run.facts, runs, command_line(), conditions)
    typer.echo(f"{count:,} records written to {output}", err=True)
    if overview.missing:
        typer.echo(f"{len(overview.missing):,} parts are missing: {ranges(overview.missing)}", err=True)


def _check_output(output: Path, folder: Path, *, overwrite: bool) -> None:
    from clipmod_cli.cli.output_paths import check_result_path
    from clipmod_cli.errors import UsageError
    from clipmod_cli.output.base import sink_for
    from clipmod_cli.output.resuming.files import whole_records

    sink_for(output.name)
    for path in {output, whole_records(output)}:
        check_result_path(path, [], overwrite=overwrite)
    if folder.expanduser().resolve() in output.resolve().parent.parents:
        raise UsageError(f"-o {output} is among the files of the run. Give another path")
