"""Limits of reading an archive, and the budget that counts against them. Reads nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from clipmod_cli.errors import ItemError

TRUNCATED = "it ends too early: it is truncated or damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """Limits of one archive, everything nested in it included.

    Attributes:
        max_entries: headers of any kind, folders and links too.
        max_ratio: decompressed bytes for each compressed one, in one entry or one compressed stream.
        free_bytes: decompressed bytes of an entry at any ratio: an icon of one colour has a high one.
        free_stream_bytes: the same for a compressed tar, whose members are one stream: a few blank
            files at its beginning must not end it.
        max_total_bytes: decompressed, in all.
        max_depth: 1 is an archive without archives in it. A compressed tar is one archive.
        max_member_bytes: of one member, which is held in memory.
        max_header_bytes: of a tar's long name or extended header.
        max_seconds: of reading, without the time of the stages that follow.
    """

    max_entries: int = 100_000
    max_ratio: int = 200
    free_bytes: int = 1_000_000
    free_stream_bytes: int = 50_000_000
    max_total_bytes: int = 20_000_000_000
    max_depth: int = 3
    max_member_bytes: int = 50_000_000
    max_header_bytes: int = 1 << 20
    max_seconds: float = 600.0


class ContainerError(ItemError):
    """The rest of this archive cannot be read; the members before are valid."""


class BudgetExceeded(Exception):  # noqa: N818 — not an error of an input: it ends the whole archive
    """The outermost archive has reached a limit; its rest is not read."""


class ArchiveBudget:
    """What was read of one archive so far. Used by one thread at a time."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self.limits = limits
        self._entries = 0
        self._bytes = 0
        self._seconds = 0.0
        self._since = time.monotonic()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the clock during the block."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._seconds += time.monotonic() - self._since

    def count_entry(self) -> None:
        """Count one more header; raises BudgetExceeded."""
        self._entries += 1
        if self._entries > self.limits.max_entries:
            raise BudgetExceeded(f"it has more than the limit of {self.limits.max_entries:,} entries")
        self.spend(0)

    def spend(self, length: int) -> None:
        """Count decompressed bytes, and check the clock; raises BudgetExceeded."""
        self._bytes += length
        if self._bytes > self.limits.max_total_bytes:
            raise BudgetExceeded(
                f"it decompresses to more than the limit of {self.limits.max_total_bytes / 1e9:g} GB"
            )
        if self._seconds + time.monotonic() - self._since > self.limits.max_seconds:
            raise BudgetExceeded(f"reading it takes longer than the limit of {self.limits.max_seconds:g} s")


@dataclass(slots=True)
class RatioMeter:
    """Compares the output of one compressed stream with its input; `free` bytes are allowed at any ratio."""

    budget: ArchiveBudget
    free: int
    produced: int = 0

    def count(self, length: int, consumed: int) -> None:
        """Count `length` more bytes, decompressed from `consumed` compressed ones in all.

        Raises ItemError if the ratio is too high, and BudgetExceeded.
        """
        self.produced += length
        self.budget.spend(length)
        ratio = self.budget.limits.max_ratio
        if self.produced > max(self.free, ratio * consumed):
            raise ItemError("archive_limit", f"it decompresses to more than {ratio} times its size")
