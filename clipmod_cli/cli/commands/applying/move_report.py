"""What `clipmod apply` and `undo` say: a plan or its outcome, on stdout; what was left, with reasons."""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import typer

from clipmod_cli.cli.terminal.stdout import plain, say
from clipmod_cli.output.moves import Move, MoveAction
from clipmod_cli.records import write_name
from clipmod_cli.review.applying.carry_out import KEPT_DAYS, MoveOutcome
from clipmod_cli.review.applying.plan import LEFT_REASONS, SETTLED, WORDS, LeftReason, MovePlan

SHOWN: Final = 20
"""Files of a kind that are named; --json names all."""

TO_DO: Final[dict[MoveAction, str]] = {"move": "move to", "copy": "copy to", "delete": "delete, and keep in"}
DONE: Final[dict[MoveAction, str]] = {
    "move": "moved to",
    "copy": "copied to",
    "delete": "deleted, and kept in",
}
UNNAMED: Final[frozenset[LeftReason]] = frozenset({"minor"})
"""Files that are never named; of settled ones the text tells only the number."""


class MoveReport:
    """Tells of one `apply`.

    Attributes:
        failed: moves that were not carried out, by reason.
    """

    def __init__(self, plan: MovePlan, *, as_json: bool) -> None:
        """Keep the plan."""
        self.plan = plan
        self.as_json = as_json
        self.failed: defaultdict[str, list[str]] = defaultdict(list)
        self.done = 0
        self.bytes = 0

    def show_plan(self, expired: Sequence[Move]) -> None:
        """Print what would be done; nothing was changed."""
        plan = self.plan
        if self.as_json:
            for move in plan.moves:
                self._print(move, "planned")
            self._print_left()
            return
        where, files = plain(plan.folder), f"{_files(len(plan.moves))}, {_size(plan.bytes)}"
        _echo(f"Would {TO_DO[plan.action]} {where}: {files}")
        for move in plan.moves[:SHOWN]:
            _echo(f"  {plain(move.source)} -> {plain(move.destination)}  ({plain(move.reason)})")
        _echo_more(len(plan.moves))
        self._show_left()
        if plan.action == "delete" and expired:
            _echo(f"Would purge {_files(len(expired))} deleted more than {KEPT_DAYS} days ago")
        say("clipmod: nothing was changed; to do it, add --yes")

    def add(self, outcome: MoveOutcome) -> None:
        """Count what became of a move, and print it as JSON."""
        if outcome.why:
            self.failed[outcome.why].append(outcome.move.source)
        else:
            self.done += 1
            self.bytes += outcome.move.bytes
        if self.as_json:
            self._print(outcome.move, "left" if outcome.why else "done", outcome.why)

    def show_purged(self, outcomes: Iterable[MoveOutcome]) -> None:
        """Print what was deleted for good."""
        purged = 0
        for outcome in outcomes:
            purged += not outcome.why
            if outcome.why:
                self.failed[f"it cannot be purged: {outcome.why}"].append(outcome.move.destination)
            if self.as_json:
                self._print(outcome.move, "left" if outcome.why else "purged", outcome.why)
        if purged and not self.as_json:
            _echo(f"{_files(purged)} deleted more than {KEPT_DAYS} days ago purged for good")

    def show_end(self, manifest: Path) -> None:
        """Print what was done and what was left, also where the run ended early."""
        plan = self.plan
        if self.as_json:
            self._print_left()
            return
        _echo(f"{_files(self.done)} {DONE[plan.action]} {plain(plan.folder)}, {_size(self.bytes)}")
        for why, names in self.failed.items():
            _echo(f"Left: {_files(len(names))}: {plain(why)}")
            _echo_names(names)
        self._show_left()
        missing = len(plan.moves) - self.done - sum(map(len, self.failed.values()))
        if missing > 0:
            say(f"clipmod: stopped before {_files(missing)}; the same command goes on")
        if self.done:
            say(f"clipmod: to undo: clipmod apply undo {shlex.quote(plain(str(manifest)))}")

    def _show_left(self) -> None:
        counts = Counter(one.reason for one in self.plan.left)
        for reason in LEFT_REASONS:
            if not (count := counts[reason]):
                continue
            _echo(f"Left: {count:,} {WORDS[reason][count > 1]}")
            if reason not in UNNAMED | SETTLED:
                _echo_names(
                    [
                        one.source + (f" ({one.detail})" if one.detail else "")
                        for one in self.plan.left
                        if one.reason == reason
                    ]
                )

    def _print_left(self) -> None:
        for one in self.plan.left:
            source, encoded = (None, None) if one.reason in UNNAMED else write_name(one.source)
            why = WORDS[one.reason][0] + (f" ({one.detail})" if one.detail else "")
            _echo_json(
                {
                    "state": "left",
                    "do": self.plan.action,
                    "source": source,
                    "source_b64": encoded,
                    "why": why,
                }
            )

    def _print(self, move: Move, state: str, why: str = "") -> None:
        print_move(move, self.plan.folder, state, why)


def print_move(move: Move, folder: str, state: str, why: str = "") -> None:
    """Print a move as one JSON object; its destination is absolute."""
    fields = move.to_fields()
    path = os.path.join(folder, move.destination)  # noqa: PTH118 - any byte
    fields["destination"], fields["destination_b64"] = write_name(path)
    hidden = {"schema", "number", "run", "at"}
    shown = {key: value for key, value in fields.items() if key not in hidden}
    _echo_json({"state": state, **shown, "why": why or None})


def show_undone(folder: str, outcomes: Iterable[MoveOutcome], *, as_json: bool) -> bool:
    """Print what was given back and what was not; return whether all was."""
    done, left = 0, defaultdict[str, list[str]](list)
    for outcome in outcomes:
        done += not outcome.why
        if outcome.why:
            left[outcome.why].append(outcome.move.source)
        if as_json:
            print_move(outcome.move, folder, "left" if outcome.why else "undone", outcome.why)
    if not as_json:
        _echo(f"{_files(done)} given back")
        for why, names in left.items():
            _echo(f"Not given back: {_files(len(names))}: {plain(why)}")
            _echo_names(names, most=len(names))
    return not left


def _echo_names(names: Sequence[str], most: int = SHOWN) -> None:
    for name in names[:most]:
        _echo(f"  {plain(name)}")
    _echo_more(len(names), most)


def _echo_more(count: int, most: int = SHOWN) -> None:
    if count > most:
        _echo(f"  and {count - most:,} more (--json names all)")


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _echo_json(fields: dict[str, Any]) -> None:
    _echo(json.dumps(fields, ensure_ascii=False))


def _echo(text: str) -> None:
    typer.echo(text)
