"""Bounds of the request bodies that are kept at once: their number and bytes, in all and for one caller.

What arrives slowly, waits for a place or is being judged takes no more of the disk and the descriptors.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from clipmod_cli.server.fairness.places import BusyError, OverShareError, share_of

BODIES_PER_PLACE: Final = 4
"""Requests that may be under way for each place: most of a slow client's time is its body's."""


@dataclass
class OpenBodies:
    """The bodies of the requests under way. Used in the event loop only.

    Attributes:
        most: requests in all.
        most_bytes: of all bodies together, received so far.
        most_per_caller: requests of one caller; None for the default of `share_of`.
    """

    most: int
    most_bytes: int
    most_per_caller: int | None = None
    now: int = 0
    bytes_now: int = 0
    _count: Counter[str] = field(default_factory=Counter, repr=False)
    _bytes: Counter[str] = field(default_factory=Counter, repr=False)

    def open(self, caller: str, declared: int) -> None:
        """Count a request that declares a body of this size.

        Raises:
            BusyError: there are too many, or it would be too large beside the others.
        """
        if self.now >= self.most:
            raise BusyError
        if self._count[caller] >= share_of(self.most, caller, self.most_per_caller):
            raise OverShareError
        self._check_bytes(caller, declared)
        self.now += 1
        self._count[caller] += 1

    def add(self, caller: str, size: int) -> None:
        """Count bytes of its body.

        Raises:
            BusyError: they are too many.
        """
        self._check_bytes(caller, size)
        self.bytes_now += size
        self._bytes[caller] += size

    def close(self, caller: str, size: int) -> None:
        """Count a request no more, whose body had this size."""
        self.now -= 1
        self.bytes_now -= size
        self._count[caller] -= 1
        self._bytes[caller] -= size
        if not self._count[caller]:
            del self._count[caller], self._bytes[caller]

    def _check_bytes(self, caller: str, size: int) -> None:
        if self.bytes_now + size > self.most_bytes:
            raise BusyError
        if self._bytes[caller] + size > share_of(self.most_bytes, caller):
            raise OverShareError
