"""`clipmod list`: the paths of records of a kind, for `xargs` and scripts."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipmod_cli.cli.commands.results.arguments import Null, Records, say_notes
from clipmod_cli.cli.commands.results.paths import refuse_newlines, write_paths
from clipmod_cli.errors import UsageError

if TYPE_CHECKING:
    from clipmod_cli.output.resuming.card import RunCard

EXAMPLES = """
\b
Examples:
  clipmod list out.jsonl --nsfw     the files that were judged NSFW
  clipmod list out.jsonl --nsfw --new -0 | xargs -0r mv -t quarantine --
  clipmod list out.jsonl --error | clipmod scan - -o again.jsonl
"""


def list_records(
    *,
    records: Records,
    nsfw: Annotated[bool, typer.Option("--nsfw", help="what was judged NSFW")] = False,
    review: Annotated[bool, typer.Option("--review", help="what needs review")] = False,
    safe: Annotated[bool, typer.Option("--safe", help="what was judged Safe")] = False,
    error: Annotated[bool, typer.Option("--error", help="what could not be judged")] = False,
    new: Annotated[
        bool, typer.Option("--new", help="only what the last run found and was not known")
    ] = False,
    gone: Annotated[bool, typer.Option("--gone", help="also files that are gone")] = False,
    null: Null = False,
) -> None:
    """Print the paths or URLs of records, one a line, each once; of a member its archive's.

    Kinds may be combined; without one, all are printed. Paths are relative where the scan ran in this folder.
    """
    from clipmod_cli.cli.terminal.stdout import say

    chosen = {"nsfw": nsfw, "review": review, "safe": safe, "error": error}
    kinds = frozenset(kind for kind, wanted in chosen.items() if wanted) or frozenset(chosen)
    counts = Counter[str]()
    found = (path for name in records for path in _paths(name, kinds, counts, new=new, gone=gone))
    newlines = write_paths(found, null=null)
    if counts["gone"]:
        say(f"clipmod: {counts['gone']} left out, since the file is gone (--gone lists it)")
    refuse_newlines(newlines)


def _paths(name: str, kinds: frozenset[str], counts: Counter[str], *, new: bool, gone: bool) -> Iterator[str]:
    """Yield the path or URL of each record of these kinds."""
    from clipmod_cli.cli.tally import kinds_of
    from clipmod_cli.output.resuming.names import working_directory
    from clipmod_cli.records import read_name

    card = _card_of(name, new=new)
    conditions, newest, here = card.conditions, card.newest, working_directory()
    for record in _read(name):
        own = kinds_of(record["final_decision"], record["status"], needs_review=bool(record["needs_review"]))
        if not own & kinds or (new and (record["known"] or record["run_id"] not in newest)):
            continue
        source = read_name(record["source"], record["source_b64"])
        run = conditions.get(record["run_id"])
        directory = here if run is None else run.directory
        path = source if directory in {None, here} else os.path.join(directory or "", source)  # noqa: PTH118
        if not gone and directory is not None and _is_gone(path, record):
            counts["gone"] += 1
        else:
            yield path


def _card_of(name: str, *, new: bool) -> RunCard:
    """Return the run card of an output; of stdin an empty one.

    Raises:
        UsageError: the output does not exist, or `new` is asked for and there is no card.
    """
    from clipmod_cli.output.resuming.card import RunCard, card_path

    path = Path(name)
    if name != "-" and not path.exists():
        raise UsageError(f"{name} does not exist; RECORDS are outputs of scan and urls")
    card = RunCard(card_path(path)) if name == "-" else RunCard.read(path)
    if new and not card.runs:
        raise UsageError(f"--new needs the run card that a run writes beside its output: {name} has none")
    return card


def _is_gone(path: str, record: dict[str, Any]) -> bool:
    """Return whether the file of a record is gone; one that never was there is an error."""
    from clipmod_cli.sources.registry import scheme_of

    error = record["error"]
    if scheme_of(path) or (error is not None and error["code"] == "not_found"):
        return False
    try:
        os.stat(path)  # noqa: PTH116 — the name may hold any byte
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _read(name: str) -> Iterator[dict[str, Any]]:
    """Yield the records of an output, also of a compressed one or of stdin.

    Raises:
        UsageError: it cannot be read, or a line of it is not a record.
    """
    from clipmod_cli.output.reading.files import check_file
    from clipmod_cli.output.resuming.resume import parse_line

    with tempfile.TemporaryDirectory(prefix="clipmod-") as folder:
        checked = check_file(name, Path(folder))
        if checked.note:
            say_notes([f"{name}: {checked.note}"])
        with checked.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if (record := parse_line(line)) is None:
                    raise UsageError(f"{name} line {number} is not a clipmod record")
                yield record
