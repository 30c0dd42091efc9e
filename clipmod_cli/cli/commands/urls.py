"""`clipmod urls`: downloads and judges the URLs of lists."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from clipmod_cli.cli.options import ENVIRONMENT_NOTE, Flags, with_settings
from clipmod_cli.errors import UsageError

if TYPE_CHECKING:
    from clipmod_cli.settings.reading import Resolved

EXAMPLES = f"""
{ENVIRONMENT_NOTE}
\b
Examples:
  clipmod urls list.txt -o out.jsonl                 the same command resumes
  clipmod urls crawl.parquet --url-column image_url  .csv, .tsv, .jsonl too
  cat list.txt | clipmod urls - --save-to originals  from stdin, kept
  clipmod urls list.txt --errors-to failed.txt       the failed ones
"""

_FOR_FOLDERS = frozenset({"include", "exclude", "max_depth", "hidden", "follow", "newer_than"})


@with_settings(
    "judging",
    "output",
    "parts",
    "urls",
    "downloads",
    "sources",
    "machine",
    "cache",
    "store",
    "talk",
    without=_FOR_FOLDERS,
)
def urls(
    lists: Annotated[
        list[str] | None,
        typer.Argument(metavar="LIST", help="list of URLs: text or a table; - reads text from stdin"),
    ] = None,
    *,
    flags: Flags,
) -> None:
    """Download and judge the URLs of a list, and write one JSON line for each as they complete."""
    from clipmod_cli.cli.terminal.logs import resolve_settings
    from clipmod_cli.cli.usage.effects import check_urls
    from clipmod_cli.sources.lists import check_lists

    resolved = resolve_settings(flags, lists or [])
    settings = resolved.settings
    named = [*(lists or []), *([settings.files_from] if settings.files_from is not None else [])]
    if not named:
        raise UsageError("no list was named. Give a file of URLs, or - for a list on stdin")
    check_lists(named, settings.url_column, settings.keep_columns)
    check_urls(resolved, named)
    raise typer.Exit(_run(resolved, named))


def _run(resolved: Resolved, named: list[str]) -> int:
    from clipmod_cli.cli.run import Inputs, judge_inputs
    from clipmod_cli.runs.urls import UrlDownloads, list_urls
    from clipmod_cli.settings.effects import names_parts

    settings = resolved.settings
    if names_parts(settings) and not settings.dry_run:
        from clipmod_cli.cli.commands.parts.running import run_parts

        return run_parts(resolved, named, "urls")
    with closing(UrlDownloads(settings)) as downloads:
        inputs = Inputs(
            items=partial(list_urls, named, settings),
            walk_ahead="-" not in named,
            fetch=downloads.fetch,
            received=lambda: downloads.traffic.bytes,
            are_urls=True,
            abilities=downloads.abilities,
        )
        if settings.dry_run:
            from clipmod_cli.cli.dry_run.counting import count_urls

            return count_urls(resolved, inputs)
        return judge_inputs(resolved, inputs)
