"""`clipmod parts`: which parts of a run are done and missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

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
    from clipmod_cli.parts.merge import newest_tally
    from clipmod_cli.parts.overview import ranges, read_overview
    from clipmod_cli.parts.store import open_part_store

    store = open_part_store(folder)
    overview = read_overview(store)
    if missing:
        tasks = ranges(overview.missing_shards() if overview.run.shards.count else overview.missing)
        if tasks:
            typer.echo(tasks)
        return
    facts = overview.describe(newest_tally(store, overview))
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    for line in overview_lines(overview, facts):
        typer.echo(line)


def overview_lines(overview: PartsOverview, facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is done, what it came to, and what is missing."""
    from clipmod_cli.parts.overview import ranges

    rate = "" if overview.rate is None else f", {overview.rate:.1f}/s"
    counts = facts["counts"]
    yield f"done     {len(overview.done):,} of {overview.run.parts:,} parts"
    again = " (one that was planned again counts again)" if facts["generations"] > 1 else ""
    yield f"inputs   {facts['inputs']:,} of {facts['planned']:,}{again}{rate}"
    yield f"records  {facts['records']:,}"
    yield f"NSFW     {counts.get('nsfw', 0):,}"
    yield f"Safe     {counts.get('safe', 0):,}"
    yield f"review   {counts.get('review', 0):,}"
    codes = ", ".join(f"{code} {count}" for code, count in sorted(facts["codes"].items()))
    yield f"failed   {counts.get('error', 0):,}" + (f"  ({codes})" if codes else "")
    if overview.missing:
        yield f"missing  {len(overview.missing):,}: {ranges(overview.missing)}"
        if tasks := ranges(overview.missing_shards()):
            yield f"tasks    {tasks}"
