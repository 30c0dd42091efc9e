"""The summary of a run on stderr, and the command that resumes a stopped run."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import get_args

from clipmod_cli.cli.terminal.progress import amount, counted, duration
from clipmod_cli.cli.terminal.stdout import plain, say
from clipmod_cli.errors import ExitCode
from clipmod_cli.runs.tally import Tally
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.effects import STDOUT_NAMES
from clipmod_cli.sources.base import Skipped
from clipmod_cli.types import ReviewReason


def print_summary(
    tally: Tally,
    skipped: Skipped,
    seconds: float,
    *,
    done: int,
    dropped: int = 0,
    received: int | None = None,
    early_exit: str | None = None,
) -> None:
    """Print counts by outcome, reason for review, category, error code and reason of skipping, and the rate.

    Args:
        tally: the counts.
        skipped: counted by reason.
        seconds: duration of the run.
        done: inputs judged by an earlier run.
        dropped: records of files that are gone, dropped by `--prune`.
        received: downloaded bytes; None if there are no downloads.
        early_exit: what calibrated early exit did; None without it.
    """
    if not tally.total:
        reasons = f" (skipped: {_counts(skipped.reasons)})" if skipped.reasons else ""
        what = "nothing was judged: all media was skipped" if skipped.media else "warning: no inputs"
        say(f"clipmod: {what}{reasons}")
        if tally.gone:
            say(f"clipmod: gone: {_gone(tally, dropped)}. Is a disk not mounted?")
        if tally.moved:
            say(f"clipmod: moved: {_moved(tally)}")
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows = _rows(tally, skipped.reasons, done, dropped)
    if early_exit is not None:
        rows["early exit"] = plain(early_exit).replace("[", r"\[")
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    rate = tally.judged / seconds if seconds > 0 else 0.0
    came = "" if received is None else f"; downloaded {amount(received, seconds)}"
    judged = f"{counted(tally.judged, 'input')} ({counted(tally.pictures, 'picture')} scored)"
    say(f"{judged} in {duration(seconds)}, {rate:.1f}/s{came}")


def _rows(tally: Tally, skipped: Counter[str], done: int, dropped: int) -> dict[str, str]:
    outcomes = tally.outcomes
    unsure = tally.kinds["review"] - outcomes["review"]
    rows = {
        "[bold red]NSFW[/]": f"{outcomes['nsfw']}" + (f"  ({unsure} to review)" if unsure else ""),
        "[green]Safe[/]": str(outcomes["safe"]),
        "[yellow]needs review[/]": str(outcomes["review"]),
        "[magenta]errors[/]": f"{outcomes['error']}" + (f"  ({_counts(tally.codes)})" if tally.codes else ""),
    }
    if outcomes["undecided"]:
        rows["no decision"] = str(outcomes["undecided"])
    if tally.reasons:
        order: tuple[str, ...] = get_args(ReviewReason)
        found = (f"{reason} {tally.reasons[reason]}" for reason in order if tally.reasons[reason])
        rows["reasons"] = ", ".join(found)
    if tally.categories:
        rows["by category"] = plain(_counts(tally.categories)).replace("[", r"\[")
    if tally.banks:
        rows["by banks"] = _counts(tally.banks)
    if tally.skipped_by:
        rows["scored by"] = plain(_shares(tally)).replace("[", r"\[")
    if tally.cached:
        rows["cached"] = f"{tally.cached}  (scored before; --no-cache scores again)"
    if skipped:
        rows["skipped"] = f"{skipped.total()}  ({_counts(skipped)})"
    return rows | _history_rows(tally, dropped, is_resumed=bool(done or tally.gone or tally.moved))


def _history_rows(tally: Tally, dropped: int, *, is_resumed: bool) -> dict[str, str]:
    """Return what is new, known, gone and moved in an output that was there."""
    if not is_resumed:
        return {}
    names = {"nsfw": "NSFW", "error": "errors"}
    counts = ", ".join(
        f"{tally.new_kinds[kind]} {name}" for kind, name in names.items() if tally.new_kinds[kind]
    )
    rows = {
        "new": f"{tally.new}  ({counts})" if counts else str(tally.new),
        "known": str(tally.total - tally.new),
    }
    if tally.gone:
        rows["gone"] = _gone(tally, dropped)
    if tally.moved:
        rows["moved"] = _moved(tally)
    return rows


def _gone(tally: Tally, dropped: int) -> str:
    """Return how many files are gone, and what became of their records."""
    kept = tally.gone - dropped
    parts = [f"{dropped} dropped by --prune"] * bool(dropped)
    parts += [f"{kept} not counted, kept in the output"] * bool(kept)
    return f"{tally.gone}  ({', '.join(parts)})"


def _moved(tally: Tally) -> str:
    return f"{tally.moved}  (by `clipmod apply`; not counted, kept in the output)"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


def _shares(tally: Tally) -> str:
    """Return the share of pictures that each model scored, the largest first."""
    scored, skipped = tally.scored_by, tally.skipped_by
    names = sorted(scored | skipped, key=lambda name: -scored[name])
    return ", ".join(f"{name} {scored[name]:,} of {scored[name] + skipped[name]:,}" for name in names)


def say_how_to_resume(settings: Settings, exit_code: ExitCode) -> None:
    """Print the command that resumes, if a signal has stopped the run."""
    if exit_code not in {ExitCode.SIGINT, ExitCode.SIGTERM, ExitCode.SIGHUP}:
        return
    if settings.output is None or settings.output in STDOUT_NAMES:
        say(f"clipmod: stopped ({exit_code}). Only a run with -o FILE can be resumed")
    else:
        say(f"clipmod: stopped ({exit_code}). To resume: {shlex.join(_resuming(sys.argv, settings))}")


def _resuming(argv: list[str], settings: Settings) -> list[str]:
    """Return the same command, but resuming."""
    words = [word for word in argv[1:] if word not in ("--overwrite", "--no-resume", "--resume=no")]
    if len(words) == len(argv) - 1:  # the environment or the settings file may set it
        words[1:1] = ["--no-overwrite"] * settings.overwrite + ["--resume=yes"] * (settings.resume == "no")
    return ["clipmod", *words]


def command_line() -> str:
    """Return the running command, quoted for a shell, secrets masked."""
    return shlex.join(["clipmod", *without_secrets(sys.argv[1:])])


def without_secrets(words: Iterable[str]) -> Iterator[str]:
    """Yield the words with the values of headers masked: they may be tokens."""
    hidden = False
    for word in words:
        flag, equals, _ = word.partition("=")
        yield "***" if hidden else f"{flag}=***" if flag == "--header" and equals else word
        hidden = word == "--header"
