"""`clipmod dedupe`: which inputs are copies or near copies of others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clipmod_cli.cli.commands.results.arguments import Null, Overwrite, Records, say_notes
from clipmod_cli.cli.terminal.progress import LINE_EVERY_S
from clipmod_cli.cli.terminal.stdout import plain, say
from clipmod_cli.errors import UsageError

if TYPE_CHECKING:
    from clipmod_cli.review.dedupe.grouping import Grouped
    from clipmod_cli.review.dedupe.items import DedupeItems
    from clipmod_cli.review.dedupe.method import DedupeMethod

EXAMPLES = """
\b
Examples:
  clipmod dedupe out.jsonl --by sha256 -o clusters.csv
  clipmod dedupe out.jsonl --by pdq -o clusters.csv
  clipmod dedupe out.jsonl --by embedding:0.97 --evidence EV -o clusters.csv
  clipmod dedupe out.jsonl --by sha256 -0 | xargs -0r mv -t copies --
"""

SHOWN: Final = 10
"""Pictures that cannot be compared and are named."""

_REASONS: Final = {
    "gone": "the file is gone",
    "changed": "the file has changed since it was scanned",
    "same file": "another record names the same file",
    "no hash": "not read, so without a hash",
}


def dedupe(
    *,
    records: Records,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="METHOD",
            help="sha256 (the same bytes), pdq:BITS (scaled or recompressed, 31; reads the files) or "
            "embedding:COSINE (pictures that the models see alike, 0.97).",
            show_default=False,
        ),
    ],
    evidence: Annotated[
        Path | None,
        typer.Option(metavar="EV", help="The folder of `scan --evidence EV`, for --by embedding."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="A .csv, .parquet, .jsonl, .jsonl.gz or .jsonl.zst file; it appears when it is complete.",
        ),
    ] = None,
    singles: Annotated[bool, typer.Option("--all", help="Also list inputs without a copy.")] = False,
    null: Null = False,
    overwrite: Overwrite = False,
) -> None:
    """Group copies and near copies; the largest of each cluster represents it. Deletes nothing.

    Without -o, the paths of all files but the largest of each cluster are printed, one a line.
    """
    from clipmod_cli.cli.output_paths import check_result_path
    from clipmod_cli.output.export import format_of
    from clipmod_cli.output.reading.records import open_records
    from clipmod_cli.review.dedupe.items import DedupeItems
    from clipmod_cli.review.dedupe.method import parse_method

    method = parse_method(by)
    _check(method, evidence)
    if output is not None:
        format_of(output)
        check_result_path(output, records, overwrite=overwrite)
    with open_records(records) as reader:
        say_notes(reader.notes)
        items = DedupeItems(reader)
        items.build()
        grouped = _group(items, method, evidence, singles=singles)
        _say(items, grouped)
        _write(grouped, output, null=null)


def _check(method: DedupeMethod, evidence: Path | None) -> None:
    if (method.kind == "embedding") != (evidence is not None):
        raise UsageError(
            "--by embedding needs --evidence EV, a folder that `clipmod scan --evidence EV` wrote"
            if evidence is None
            else f"--evidence has no effect with --by {method.kind}"
        )


def _group(items: DedupeItems, method: DedupeMethod, evidence: Path | None, *, singles: bool) -> Grouped:
    from clipmod_cli.evidence.folder import open_folder
    from clipmod_cli.review.dedupe.grouping import group_by_bytes, group_by_embedding, group_by_pdq

    said = time.monotonic()

    def say_progress(done: int) -> None:
        nonlocal said
        if time.monotonic() - said >= LINE_EVERY_S:
            said = time.monotonic()
            say(f"clipmod: {done:,} pictures compared")

    if evidence is not None:
        stored = open_folder(evidence)
        return group_by_embedding(items, stored, method.limit, singles=singles, on_progress=say_progress)
    if method.kind == "pdq":
        return group_by_pdq(items, int(method.limit), singles=singles, on_progress=say_progress)
    return group_by_bytes(items, singles=singles)


def _say(items: DedupeItems, grouped: Grouped) -> None:
    for cause, count in sorted(items.left_out.items()):
        say(f"clipmod: {count:,} left out: {_REASONS[cause]}")
    for name, reason in grouped.failed[:SHOWN]:
        say(f"clipmod: cannot compare {plain(name)}: {plain(reason)}")
    if len(grouped.failed) > SHOWN:
        say(f"clipmod: nor {len(grouped.failed) - SHOWN:,} others")
    if grouped.by_bytes_only:
        have = "has" if grouped.poor == 1 else "have"
        poor = f"; {grouped.poor:,} {have} too little structure for PDQ" if grouped.poor else ""
        say(f"clipmod: {grouped.by_bytes_only:,} compared by their bytes alone{poor}")
    found = grouped.clusters.count()
    cluster = "1 cluster" if found.clusters == 1 else f"{found.clusters:,} clusters"
    copies = "1 copy" if found.copies == 1 else f"{found.copies:,} copies"
    say(f"{cluster}: {copies} ({found.bytes / 1e6:,.1f} MB) beside the largest of each")


def _write(grouped: Grouped, output: Path | None, *, null: bool) -> None:
    from clipmod_cli.cli.commands.results.paths import refuse_newlines, write_paths
    from clipmod_cli.output.export import write_table

    if output is None:
        refuse_newlines(write_paths((item.path for item in grouped.clusters.copies()), null=null))
    else:
        write_table(grouped.clusters.rows(), output)
