"""What a run came to, in a few lines on stderr."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping

from clipmod_cli.cli.progress import duration
from clipmod_cli.cli.stdout import plain
from clipmod_cli.cli.tally import Tally


def say(text: str) -> None:
    """Write a line to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def print_summary(tally: Tally, skipped: Counter[str], seconds: float, *, kept: int) -> None:
    """Print counts by decision, category and error code, what was skipped, and the rate."""
    if not tally.total:
        reasons = f" ({_counts(skipped)})" if skipped else ""
        say(f"clipmod: there was nothing to judge{reasons}")
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _rows(tally, skipped, kept).items():
        table.add_row(name, value)
    console.print(table)
    rate = tally.judged / seconds if seconds > 0 else 0.0
    say(f"{tally.judged} inputs ({tally.pictures} pictures scored) in {duration(seconds)}, {rate:.1f}/s")


def _rows(tally: Tally, skipped: Counter[str], kept: int) -> Mapping[str, str]:
    kinds = tally.kinds
    rows = {
        "[bold red]NSFW[/]": str(kinds["nsfw"]),
        "[green]Safe[/]": str(kinds["safe"]),
        "[yellow]needs review[/]": str(kinds["review"]),
        "[magenta]errors[/]": f"{kinds['error']}" + (f"  ({_counts(tally.codes)})" if tally.codes else ""),
    }
    if tally.categories:
        rows["by category"] = plain(_counts(tally.categories)).replace("[", r"\[")
    if skipped:
        rows["skipped"] = f"{skipped.total()}  ({_counts(skipped)})"
    if kept:
        rows["judged before"] = str(kept)
    return rows


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())
