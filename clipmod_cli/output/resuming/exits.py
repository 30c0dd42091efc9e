"""Review of pictures that exited early and perhaps should not have, by a rewrite of their records."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic_core import from_json, to_json

from clipmod_cli.errors import OutputError
from clipmod_cli.output.resuming.lines import parse_line
from clipmod_cli.output.resuming.rewrite import remove_ranges

REASON: Final = "early_exit"


def review_exits(path: Path, audit: int) -> tuple[int, int]:
    """Mark all pictures for review that exited early from this audit on.

    Returns how many get this reason, and how many of these needed no review before. Idempotent.

    Args:
        path: the output, closed and still locked.
        audit: the least `exit_audit` of these records.

    Raises:
        OutputError: it cannot be written; nothing is lost.
    """
    try:
        ranges = array("Q", _ranges_of(path, audit))
        new = _Reviewer()
        remove_ranges(path, ranges, torn=None, in_place_of=new.review)
    except OSError as e:
        raise OutputError(f"cannot rewrite records of {path}: {e.strerror}") from e
    return len(ranges) // 2, new.count


def _ranges_of(path: Path, audit: int) -> Iterator[int]:
    """Yield start and end of each record that is not reviewed for this reason yet."""
    start = 0
    with path.open("rb") as file:
        for line in file:
            end = start + len(line)
            if b'"exit_audit":' in line and _is_doubtful(line, audit):
                yield from (start, end)
            start = end


def _is_doubtful(line: bytes, audit: int) -> bool:
    record = parse_line(line)
    if record is None or record.get("exit_audit") is None:
        return False
    return record["exit_audit"] >= audit and REASON not in (record["review_reasons"] or ())


@dataclass
class _Reviewer:
    """Rewrites lines, and counts those that needed no review."""

    count: int = 0

    def review(self, _start: int, line: bytes) -> bytes:
        record = from_json(line)
        self.count += not record["needs_review"]
        record |= {"needs_review": True, "review_reasons": [*(record["review_reasons"] or ()), REASON]}
        return to_json(record) + b"\n"
