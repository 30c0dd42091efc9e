"""Review of pictures that exited early and perhaps should not have, by a rewrite of their records."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic_core import from_json, to_json

from clipmod_cli.errors import OutputError
from clipmod_cli.output.resuming.files import open_lines
from clipmod_cli.output.resuming.lines import parse_line
from clipmod_cli.output.resuming.rewrite import remove_ranges

REASON: Final = "early_exit"


@dataclass(slots=True, kw_only=True)
class ExitReview:
    """Marks records for review, and counts those whose inputs are not gone.

    Attributes:
        run_id: of this run.
        same_runs: this run and earlier ones with the same sources and working directory. Records of the
            earlier ones become new ones of this run, so that they are reported as such.
        gone: start and end of each record whose input is gone; moved as lines grow.
        count: the records with a further reason for review.
        unreviewed: of these, the ones that needed no review before.
        renewed: of these, the ones of earlier runs that are new now.
    """

    run_id: str
    same_runs: Collection[str]
    gone: array[int]
    count: int = 0
    unreviewed: int = 0
    renewed: int = 0
    _gone_starts: frozenset[int] = field(init=False)
    _growth: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Keep which lines do not count."""
        self._gone_starts = frozenset(self.gone[::2])

    def mark(self, path: Path, audit: int) -> None:
        """Mark all pictures for review that exited early from this audit on. Idempotent.

        Args:
            path: the output, closed and still locked.
            audit: the least `exit_audit` of these records.

        Raises:
            OutputError: it cannot be written; nothing is lost.
        """
        try:
            ranges = array("Q", _ranges_of(path, audit))
            remove_ranges(path, ranges, torn=None, in_place_of=self._mark_line)
        except OSError as e:
            raise OutputError(f"cannot rewrite records of {path}: {e.strerror}") from e
        _shift(self.gone, self._growth)

    def _mark_line(self, start: int, line: bytes) -> bytes:
        record = from_json(line)
        is_renewed = (
            not record["needs_review"]
            and record["run_id"] != self.run_id
            and record["run_id"] in self.same_runs
        )
        if start not in self._gone_starts:
            self.count += 1
            self.unreviewed += not record["needs_review"]
            self.renewed += is_renewed
        record |= {"needs_review": True, "review_reasons": [*(record["review_reasons"] or ()), REASON]}
        if is_renewed:
            record |= {"run_id": self.run_id, "known": False}
        marked = to_json(record) + b"\n"
        self._growth.append((start, len(marked) - len(line)))
        return marked


def _shift(offsets: array[int], growth: Iterable[tuple[int, int]]) -> None:
    """Move offsets by what lines before them have grown; both ascend."""
    lines, added = iter(growth), 0
    start, grown = next(lines, (None, 0))
    for number, offset in enumerate(offsets):
        while start is not None and start < offset:
            added += grown
            start, grown = next(lines, (None, 0))
        offsets[number] = offset + added


def _ranges_of(path: Path, audit: int) -> Iterator[int]:
    """Yield start and end of each record that is not reviewed for this reason yet."""
    start = 0
    with open_lines(path) as file:
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
