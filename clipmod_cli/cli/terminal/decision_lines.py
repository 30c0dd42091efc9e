"""The counts of files of decisions as a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer

from clipmod_cli.cli.terminal.stdout import plain

NAMES: Final = {"queue": "In the queue", "audit": "Drawn from all"}


def show_decisions(counts: Mapping[str, Any]) -> None:
    """Print what `review.counting.count_decisions` gives."""
    for line in _lines(counts):
        typer.echo(line)


def _lines(counts: Mapping[str, Any]) -> Iterator[str]:
    kinds = ", ".join(f"{counts[one]:,} {one}" for one in ("unsafe", "safe", "unsure", "withheld"))
    yield f"{counts['decisions']:,} decisions on {counts['files']:,} files: {kinds}"
    if not counts["decisions"]:
        return
    yield f"{counts['minutes']:,} minutes, {counts['median_seconds']} s a decision in the median"
    yield "By " + ", ".join(f"{plain(name)} ({count:,})" for name, count in counts["reviewers"].items())
    for why, name in NAMES.items():
        one = counts["agreement"][why]
        if one["decisions"]:
            yield (
                f"{name}: people agree with {one['agree']:,} of {one['decisions']:,} "
                f"({one['agree'] / one['decisions']:.1%}); NSFW but safe: {one['nsfw_but_safe']:,}, "
                f"Safe but unsafe: {one['safe_but_unsafe']:,}"
            )
