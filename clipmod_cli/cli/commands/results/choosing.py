"""Which records of outputs a command is about: those of a kind, with the paths of their inputs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmod_cli.cli.commands.results.arguments import say_notes
from clipmod_cli.errors import UsageError

if TYPE_CHECKING:
    from clipmod_cli.output.resuming.card import RunCard


@dataclass(frozen=True, slots=True)
class ChosenRecord:
    """A record of a kind that was asked for.

    Attributes:
        fields: of its line.
        source: exact, as it was given.
        directory: to which that is relative; None if its inputs are URLs.
        folders: that its run named: the name, and the path with links resolved.
    """

    fields: dict[str, Any]
    source: str
    directory: str | None
    folders: tuple[tuple[str, str], ...] = ()


def choose_records(name: str, kinds: frozenset[str], *, new: bool = False) -> Iterator[ChosenRecord]:
    """Yield the records of these kinds in an output.

    Args:
        name: of the output; `-` is stdin.
        kinds: as `kinds_of` names them.
        new: only what the last run found and was not known.

    Raises:
        UsageError: it cannot be read, a line is not a record, or `new` is asked for and there is no run card.
    """
    from clipmod_cli.output.resuming.names import working_directory
    from clipmod_cli.records import read_name
    from clipmod_cli.runs.tally import kinds_of

    card = card_of(name)
    if new and not card.runs:
        raise UsageError(f"--new needs the run card that a run writes beside its output: {name} has none")
    conditions, newest, here = card.conditions, card.newest, working_directory()
    for record in _read(name):
        own = kinds_of(record["final_decision"], record["status"], needs_review=bool(record["needs_review"]))
        if not own & kinds or (new and (record["known"] or record["run_id"] not in newest)):
            continue
        source = read_name(record["source"], record["source_b64"])
        run = conditions.get(record["run_id"])
        if run is None:
            yield ChosenRecord(record, source, here)
        else:
            yield ChosenRecord(record, source, run.directory, run.folders)


def path_from_here(chosen: ChosenRecord) -> str:
    """Return the path of a record's input as seen from the working directory, or its URL."""
    from clipmod_cli.output.resuming.names import working_directory

    if chosen.directory in {None, working_directory()}:
        return chosen.source
    return os.path.join(chosen.directory or "", chosen.source)  # noqa: PTH118 - the name may hold any byte


def card_of(name: str) -> RunCard:
    """Return the run card of an output; an empty one if there is none, as of stdin.

    Raises:
        UsageError: the output does not exist.
    """
    from clipmod_cli.output.reading.files import refuse_parts
    from clipmod_cli.output.resuming.card import RunCard, card_path
    from clipmod_cli.output.resuming.files import part_path

    refuse_parts(name)
    path = Path(name)
    if name != "-" and not path.exists():
        if (unfinished := part_path(path)).exists():
            raise UsageError(f"the run that writes {name} has not ended; its records are in {unfinished}")
        raise UsageError(f"{name} does not exist; RECORDS are outputs of scan and urls")
    return RunCard(card_path(path)) if name == "-" else RunCard.read(path)


def _read(name: str) -> Iterator[dict[str, Any]]:
    """Yield the records of an output, also of a compressed one or of stdin.

    Raises:
        UsageError: it cannot be read, or a line of it is not a record.
    """
    from clipmod_cli.output.reading.files import check_file
    from clipmod_cli.output.resuming.lines import parse_line

    with tempfile.TemporaryDirectory(prefix="clipmod-") as folder:
        checked = check_file(name, Path(folder))
        if checked.note:
            say_notes([f"{name}: {checked.note}"])
        with checked.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if (record := parse_line(line)) is None:
                    raise UsageError(f"{name} line {number} is not a clipmod record")
                yield record
