"""Places: how many requests are judged at once, in all and for one caller.

A place is held while something is judged, not while a body arrives or an answer is read.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from clipmod_cli.server.fairness.callers import current_caller, may_be_many

SHARE: Final = Fraction(3, 4)
"""Of all there is, for one caller: alone it loses little, and the others always find room."""

PATIENCE_S: Final = 10.0
"""How long a request whose body has arrived waits for a place."""


def share_of(most: int, caller: str, explicit: int | None = None) -> int:
    """Return how many of `most` one caller may have.

    Without an explicit number three quarters; all at a loopback address, where a proxy hides its clients.
    """
    if explicit is not None:
        return min(explicit, most)
    return most if may_be_many(caller) else max(1, int(most * SHARE))


class BusyError(Exception):
    """The service is full."""


class OverShareError(BusyError):
    """The caller has all the places that one caller may have."""


@dataclass(eq=False)
class _Waiter:
    """A request that waits for a place."""

    caller: str
    loop: asyncio.AbstractEventLoop
    event: asyncio.Event = field(default_factory=asyncio.Event)
    granted: bool = False


@dataclass
class ServiceLoad:
    """The places. Safe to use from any thread.

    Attributes:
        most: places in all.
        most_per_caller: places for one caller; None for the default of `share_of`.
        now: places that are taken.
        peak: the most that were ever taken.
    """

    most: int
    most_per_caller: int | None = None
    now: int = 0
    peak: int = 0
    _peak_since: int = field(default=0, repr=False)
    _held: Counter[str] = field(default_factory=Counter, repr=False)
    _waiting: list[_Waiter] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @contextmanager
    def one(self) -> Iterator[int]:
        """Hold a place for the block, and give the number that are taken.

        Raises:
            BusyError: all places are taken, or all of this caller's.
        """
        caller = current_caller()
        with self._lock:
            self._check(caller)
            count = self._take(caller)
        try:
            yield count
        finally:
            self._release(caller)

    @asynccontextmanager
    async def turn(self, patience_s: float | None = PATIENCE_S) -> AsyncIterator[int]:
        """As `one`, but wait for a place so long; None for as long as it takes."""
        caller = current_caller()
        with self._lock:
            waiter = None if self._has_room(caller) else _Waiter(caller, asyncio.get_running_loop())
            if waiter is None:
                self._take(caller)
            else:
                self._waiting.append(waiter)
        if waiter is not None:
            await self._wait(waiter, patience_s)
        try:
            yield self.now
        finally:
            self._release(caller)

    @property
    def full(self) -> bool:
        """Whether one more would be refused."""
        return self.now >= self.most

    def take_peak(self) -> int:
        """Return the most that were taken at once since the last call."""
        with self._lock:
            peak, self._peak_since = self._peak_since, self.now
        return peak

    def check(self, caller: str) -> None:
        """Raise what a request of this caller would be refused with now.

        Raises:
            BusyError: all places are taken, or all of this caller's (`OverShareError`).
        """
        with self._lock:
            self._check(caller)

    async def _wait(self, waiter: _Waiter, patience_s: float | None) -> None:
        try:
            async with asyncio.timeout(patience_s):
                await waiter.event.wait()
        except BaseException as e:
            with self._lock:
                if not waiter.granted:
                    self._waiting.remove(waiter)
            if waiter.granted:
                self._release(waiter.caller)
            if isinstance(e, TimeoutError):
                raise BusyError from e
            raise

    def _check(self, caller: str) -> None:
        if self.full:
            raise BusyError
        if not self._has_room(caller):
            raise OverShareError

    def _has_room(self, caller: str) -> bool:
        return not self.full and self._held[caller] < share_of(self.most, caller, self.most_per_caller)

    def _take(self, caller: str) -> int:
        self._held[caller] += 1
        self.now += 1
        self.peak = max(self.peak, self.now)
        self._peak_since = max(self._peak_since, self.now)
        return self.now

    def _release(self, caller: str) -> None:
        with self._lock:
            self.now -= 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]
            # of those that may, the caller with the fewest places; of the same number the first that came
            able = [one for one in self._waiting if self._has_room(one.caller)]
            if able:
                chosen = min(able, key=lambda one: self._held[one.caller])
                self._waiting.remove(chosen)
                self._take(chosen.caller)
                chosen.granted = True
                if not chosen.loop.is_closed():
                    chosen.loop.call_soon_threadsafe(chosen.event.set)
