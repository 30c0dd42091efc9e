"""`clipmod parts`: which parts of a run are done and missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clipmod_cli.parts.overview import PartsOverview

EXAMPLES = """
\b
Examples:
  clipmod parts OUT/                                      what is done
  sbatch --array=$(clipmod parts OUT/ --missing) job.sh   the rest again
"""


def parts(
    folder: Annotated[str, typer.Argument(metavar="OUT/", help="the -o of a run in parts")],
    *,
    missing: Annotated[
        bool,
        typer.Option(
            "--missing", help="print only the array tasks with missing parts, as 3,7-9; else the parts"
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Show which parts of a run are done and which are missing."""
    from clipmod_cli.parts.overview import ranges, read_overview
    from clipmod_cli.parts.store import open_part_store

    overview = read_overview(open_part_store(folder))
    if as_json:
        typer.echo(json.dumps(overview.describe(), ensure_ascii=False))
        return
    if missing:
        tasks = ranges(overview.missing_shards() if overview.run.shards.count else overview.missing)
        if tasks:
            typer.echo(tasks)
        return
    for line in overview_lines(overview):
        typer.echo(line)


def overview_lines(overview: PartsOverview) -> Iterator[str]:
    """Yield what is done, what it came to, and what is missing."""
    from clipmod_cli.parts.overview import ranges

    facts = overview.describe()
    rate = "" if overview.rate is None else f", {overview.rate:.1f}/s"
    counts = facts["counts"]
    yield f"done     {len(overview.done):,} of {overview.run.parts:,} parts"
    yield f"inputs   {facts['inputs']:,} of {facts['planned']:,}"
    yield f"records  {facts['records']:,}{rate}"
    yield f"NSFW     {counts.get('nsfw', 0):,}"
    yield f"Safe     {counts.get('safe', 0):,}"
    yield f"review   {counts.get('review', 0):,}"
    codes = ", ".join(f"{code} {count}" for code, count in sorted(facts["codes"].items()))
    yield f"failed   {counts.get('error', 0):,}" + (f"  ({codes})" if codes else "")
    if len(overview.run.generations) > 1:
        yield "all generations are counted; `stats --from` counts the newest records of each input"
    if overview.missing:
        yield f"missing  {len(overview.missing):,}: {ranges(overview.missing)}"
        if tasks := ranges(overview.missing_shards()):
            yield f"tasks    {tasks}"
