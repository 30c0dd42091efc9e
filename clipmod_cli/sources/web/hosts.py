"""Who may download now: so many at once in all and from one host, none from a host that asked for a pause.

Also how many bytes may be held at once. Both belong to one event loop, and know nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

MAX_PAUSES = 5
"""Pauses that a host may ask for in a row, without an answer in between, before the rest of its URLs
fail at once: a host that always says "later" would else keep a run from ever ending."""


class TooManyPausesError(Exception):
    """The host asked for one pause too many; `why` is the reason it was given last."""

    def __init__(self, why: int) -> None:
        """Keep the reason."""
        super().__init__(why)
        self.why = why


@dataclass(slots=True)
class _Host:
    active: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    in_line: bool = False
    paused: bool = False
    pauses: int = 0
    why: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is worth remembering."""
        return not (self.active or self.waiting or self.paused or self.in_line)


class HostScheduler:
    """Gives out turns: hosts that may be asked get one each, round and round, first come first served.

    Hosts that are at their limit or paused are not looked at, so each turn costs the same however
    many wait.
    """

    def __init__(self, most: int, per_host: int, ready: Callable[[], bool] = lambda: True) -> None:
        """Allow `most` turns at once, `per_host` of one host, and new ones only while `ready` says so."""
        self._left = most
        self._per_host = per_host
        self._ready = ready
        self._hosts: dict[str, _Host] = {}
        self._line: deque[str] = deque()

    @asynccontextmanager
    async def take(self, name: str) -> AsyncIterator[None]:
        """Wait for a turn with this host, and hold it during the block.

        Raises:
            TooManyPausesError: if the host is not asked any more.
        """
        await self._wait(name)
        try:
            yield
        finally:
            self._leave(name)

    def pause(self, name: str, seconds: float, why: int) -> None:
        """Give no turn with this host for a while. Called by who has one; pauses do not add up.

        Args:
            name: the host.
            seconds: from now.
            why: is handed on to those who wait if this is one pause too many.
        """
        host = self._hosts[name]
        if host.paused:
            return
        host.pauses += 1
        host.why = why
        if host.pauses > MAX_PAUSES:
            self._fail(host)
            return
        host.paused = True
        asyncio.get_running_loop().call_later(seconds, self._unpause, name)

    def answered(self, name: str) -> None:
        """Note that this host serves. Called by who has a turn with it."""
        self._hosts[name].pauses = 0

    def give_out(self) -> None:
        """Give out what turns there are; to be called when `ready` may have changed."""
        while self._line and self._left > 0 and self._ready():
            name = self._line.popleft()
            host = self._hosts[name]
            host.in_line = False
            turn = self._next_waiting(host)
            if turn is None:
                self._forget(name)
                continue
            host.active += 1
            self._left -= 1
            turn.set_result(None)
            self._queue(name)

    async def _wait(self, name: str) -> None:
        host = self._hosts.setdefault(name, _Host())
        if host.pauses > MAX_PAUSES:
            raise TooManyPausesError(host.why)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        host.waiting.append(turn)
        self._queue(name)
        self.give_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(name)
            raise

    def _leave(self, name: str) -> None:
        host = self._hosts[name]
        host.active -= 1
        self._left += 1
        self._queue(name)
        self._forget(name)
        self.give_out()

    def _queue(self, name: str) -> None:
        """Put a host into the line if it has somebody to give a turn to."""
        host = self._hosts[name]
        if host.waiting and not (host.in_line or host.paused) and host.active < self._per_host:
            host.in_line = True
            self._line.append(name)

    def _next_waiting(self, host: _Host) -> asyncio.Future[None] | None:
        while host.waiting and not host.paused:
            turn = host.waiting.popleft()
            if not turn.done():
                return turn
        return None

    def _unpause(self, name: str) -> None:
        self._hosts[name].paused = False
        self._queue(name)
        self._forget(name)
        self.give_out()

    def _fail(self, host: _Host) -> None:
        while host.waiting:
            turn = host.waiting.popleft()
            if not turn.done():
                turn.set_exception(TooManyPausesError(host.why))

    def _forget(self, name: str) -> None:
        if self._hosts[name].is_idle:
            del self._hosts[name]


class DownloadBudget:
    """A number of bytes that may be held at once, given out in the order of asking."""

    def __init__(self, most: int) -> None:
        """Allow `most` bytes."""
        self.most = most
        self._left = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def has(self, amount: int) -> bool:
        """Return whether this much could be taken without waiting."""
        return not self._waiting and amount <= self._left

    async def take(self, amount: int) -> None:
        """Wait until this much is free, and take it. More than all there is counts as all."""
        amount = min(amount, self.most)
        if self.has(amount):
            self._left -= amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(amount)
            else:
                self._hand_on()
            raise

    def give(self, amount: int) -> None:
        """Give back what was taken."""
        self._left += min(amount, self.most)
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if not turn.done():
                if amount > self._left:
                    return
                self._left -= amount
                turn.set_result(None)
            self._waiting.popleft()
