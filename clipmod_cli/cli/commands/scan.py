"""`clipmod scan`: files, folders, object stores and lists of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from clipmod_cli.cli.options import ENVIRONMENT_NOTE, Flags, with_settings
from clipmod_cli.errors import UsageError

if TYPE_CHECKING:
    from clipmod_cli.settings.definition import Settings
    from clipmod_cli.settings.reading import Resolved
    from clipmod_cli.sources.base import Rules, Skipped
    from clipmod_cli.types import Failure, Item

EXAMPLES = f"""
{ENVIRONMENT_NOTE}
\b
Examples:
  clipmod scan ./uploads --policy nsfw               a folder, recursively
  clipmod scan ./uploads --policy nsfw -o out.jsonl  the same command resumes
  clipmod scan photo.jpg --json | jq .final_decision one picture, as JSON
  find . -name '*.jpg' -print0 | clipmod scan -0 -   a list of paths
  clipmod scan s3://bucket/uploads gs://bucket/p     object stores
"""


@with_settings("sources", "judging", "output", "parts", "machine", "cache", "store", "talk")
def scan(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", help="file, folder, s3://, gs:// or hf://; - is a list"),
    ] = None,
    *,
    flags: Flags,
) -> None:
    """Judge files and folders (recursively), and write one JSON line for each."""
    from clipmod_cli.cli.terminal.logs import resolve_settings
    from clipmod_cli.cli.usage.effects import check_scan
    from clipmod_cli.sources.registry import check_packages

    resolved = resolve_settings(flags, sources or [])
    settings = resolved.settings
    named = sources or []
    if not named and settings.files_from is None:
        raise UsageError("no source was named. Give files or folders, - for a list on stdin, or --files-from")
    check_packages(named)
    check_scan(resolved, named)
    raise typer.Exit(_run(resolved, named))


def _run(resolved: Resolved, named: list[str]) -> int:
    from clipmod_cli.cli.run import Inputs, judge_inputs
    from clipmod_cli.runs.files import rules_of
    from clipmod_cli.settings.effects import names_parts

    settings = resolved.settings
    items = partial(_items, named, settings, rules_of(settings))
    if names_parts(settings) and not settings.dry_run:
        from clipmod_cli.cli.commands.parts.running import run_parts

        return run_parts(resolved, named, "scan")
    has_list = settings.files_from is not None or "-" in named
    inputs = Inputs(
        items=items,
        sources=None if has_list else named,
        walk_ahead="-" not in (*named, settings.files_from),
    )
    if settings.dry_run:
        from clipmod_cli.cli.dry_run.counting import count_inputs

        return count_inputs(resolved, inputs)
    return judge_inputs(resolved, inputs)


def _items(named: list[str], settings: Settings, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
    from clipmod_cli.sources.lists import read_list
    from clipmod_cli.sources.registry import expand

    listed = read_list(settings.files_from, null=settings.null) if settings.files_from else iter(())
    return expand((source for part in (named, listed) for source in part), rules, skipped)
