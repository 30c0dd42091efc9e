"""`clipmod list`: the paths of records of a kind, for `xargs` and scripts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from clipmod_cli.cli.commands.results.arguments import Null, Records
from clipmod_cli.cli.commands.results.paths import refuse_newlines, write_paths

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
    nsfw: Annotated[bool, typer.Option("--nsfw", help="What was judged NSFW.")] = False,
    review: Annotated[bool, typer.Option("--review", help="What needs review.")] = False,
    safe: Annotated[bool, typer.Option("--safe", help="What was judged Safe.")] = False,
    error: Annotated[bool, typer.Option("--error", help="What could not be judged.")] = False,
    new: Annotated[
        bool, typer.Option("--new", help="Only what the last run found and was not known before.")
    ] = False,
    gone: Annotated[bool, typer.Option("--gone", help="Also files that are gone or were moved.")] = False,
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
    if counts["moved"]:
        say(f"clipmod: {counts['moved']} left out, since `clipmod apply` moved the file (--gone lists it)")
    refuse_newlines(newlines)


def _paths(name: str, kinds: frozenset[str], counts: Counter[str], *, new: bool, gone: bool) -> Iterator[str]:
    """Yield the path or URL of each record of these kinds."""
    from clipmod_cli.cli.commands.results.choosing import choose_records, path_from_here
    from clipmod_cli.output.resuming.moved import MovedFiles
    from clipmod_cli.output.resuming.names import InputNames

    moved = MovedFiles() if name == "-" else MovedFiles.beside(Path(name))
    names = InputNames()
    for chosen in choose_records(name, kinds, new=new):
        path = path_from_here(chosen)
        if gone or chosen.directory is None or not _is_gone(path, chosen.fields):
            yield path
        elif moved.find(names.resolve(chosen.source, chosen.directory), chosen.fields["sha256"]) is not None:
            counts["moved"] += 1
        else:
            counts["gone"] += 1


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
