"""Dropping the records of inputs that are gone (`--prune`); what is dropped is kept in `OUT.gone.jsonl`.

A folder that is empty or cannot be listed proves nothing: its disk may not be mounted.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.resuming.files import beside, open_lines
from clipmod_cli.output.resuming.lines import parse_line
from clipmod_cli.output.resuming.resume import DoneInputs
from clipmod_cli.output.resuming.rewrite import remove_ranges
from clipmod_cli.records import read_name
from clipmod_cli.sources.base import Skipped

DROPPED: Final = ".gone.jsonl"
"""What the name of the file of dropped records has behind that of the output."""

MOST_GONE: Final = 0.2
"""The share of records that may go without `--prune=all`."""


def gone_path(output: Path) -> Path:
    """Return where the dropped records of an output are."""
    return beside(output, DROPPED)


def prune(path: Path, done: DoneInputs, walked: Skipped, *, written: int, drop_any: bool) -> int:
    """Drop the records of inputs that are gone from folders that were listed; return how many.

    Args:
        path: the output, closed and still locked.
        done: what this run found in it.
        walked: which folders this run listed.
        written: how many records this run added.
        drop_any: also over 20 % of the records, and those of folders in which nothing was found.

    Raises:
        UsageError: over 20 % of the records would go.
        OutputError: a file cannot be written; nothing is lost.
    """
    complete = [name for name, count in walked.listed.items() if count or drop_any]
    try:
        ranges = array("Q", _ranges_below(path, done, set(complete) - walked.unlisted))
        count, total = len(ranges) // 2, done.count + done.gone_count + written
        if count > total * MOST_GONE and not drop_any:
            raise UsageError(
                f"--prune would drop {count:,} of the {total:,} records of {path}, so none was dropped. "
                "If their files were deleted on purpose: --prune=all"
            )
        if count:
            _keep(path, ranges)
            remove_ranges(path, ranges, torn=None)
    except OSError as e:
        raise OutputError(f"cannot drop records from {path}: {e.strerror}") from e
    return count


def _ranges_below(path: Path, done: DoneInputs, folders: set[str]) -> Iterator[int]:
    """Yield start and end of each record whose input is gone from one of the folders."""
    scope = done.names.scope(folders, done.directory)
    with open_lines(path) as file:
        for start, end in zip(done.gone[::2], done.gone[1::2], strict=True):
            file.seek(start)
            record = parse_line(file.read(end - start))
            if record is None:
                raise AssertionError("a record was read there before")
            source = read_name(record["source"], record["source_b64"])
            name = done.names.resolve(source, done.directory_of(record["run_id"]))
            if scope.covers(name) and not scope.names(name) and done.is_unmatched(record):
                yield from (start, end)


def _keep(path: Path, ranges: array[int]) -> None:
    """Append the lines that go to the file of dropped records."""
    with open_lines(path) as source, gone_path(path).open("ab") as kept:
        for start, end in zip(ranges[::2], ranges[1::2], strict=True):
            source.seek(start)
            kept.write(source.read(end - start))
        kept.flush()
        os.fsync(kept.fileno())
