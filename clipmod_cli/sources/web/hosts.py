"""Limits of concurrent downloads, in all and by host, pauses of hosts, and a budget of bytes in memory.

Both classes belong to one event loop. No HTTP requests are made here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from clipmod_cli.sources.web.errors import FetchError

MAX_PAUSES = 5
"""Consecutive pauses after which the rest of a host's URLs fail at once, so that every run ends."""


@dataclass(slots=True)
class _Host:
    active: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    paused: bool = False
    pauses: int = 0
    status: int = 0


class HostScheduler:
    """Assigns download slots to hosts round-robin, and first come, first served within a host.

    Hosts that are paused or at their limit are not in the queue, so a slot costs the same however many wait.
    """

    def __init__(self, total: int, per_host: int, accepts: Callable[[], bool] = lambda: True) -> None:
        """Allow `total` slots, `per_host` for one host, and new ones only while `accepts()` is true."""
        self._free = total
        self._per_host = per_host
        self._accepts = accepts
        self._hosts: dict[str, _Host] = {}
        self._queue: OrderedDict[str, None] = OrderedDict()

    @asynccontextmanager
    async def slot(self, name: str) -> AsyncIterator[None]:
        """Hold a slot of this host during the block, and pause the host if the block's FetchError says so.

        Raises:
            FetchError: `http_error`, after too many pauses.
        """
        await self._acquire(name)
        try:
            yield
            self._hosts[name].pauses = 0
        except FetchError as e:
            if e.retry_after_s and e.status:
                self.pause(name, e.retry_after_s, e.status)
            elif e.status:
                self._hosts[name].pauses = 0
            raise
        finally:
            self._release(name)

    def pause(self, name: str, seconds: float, status: int) -> None:
        """Assign no slot of this host for some seconds; pauses do not add up. The caller holds a slot.

        `status` is that of the answer, for the error if this is one pause too many.
        """
        host = self._hosts[name]
        if host.paused:
            return
        host.pauses += 1
        host.status = status
        if host.pauses > MAX_PAUSES:
            for slot in host.waiting:
                if not slot.done():
                    slot.set_exception(_too_many_pauses(status))
            host.waiting.clear()
            return
        host.paused = True
        asyncio.get_running_loop().call_later(seconds, self._resume, name)

    def dispatch(self) -> None:
        """Assign the free slots; to be called when `accepts` may have changed."""
        while self._queue and self._free > 0 and self._accepts():
            name, _ = self._queue.popitem(last=False)
            host = self._hosts[name]
            if (slot := self._next_waiting(host)) is None:
                self._forget_if_idle(name)
                continue
            host.active += 1
            self._free -= 1
            slot.set_result(None)
            self._enqueue(name)

    async def _acquire(self, name: str) -> None:
        host = self._hosts.setdefault(name, _Host())
        if host.pauses > MAX_PAUSES:
            raise _too_many_pauses(host.status)
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        host.waiting.append(slot)
        self._enqueue(name)
        self.dispatch()
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled() and slot.exception() is None:
                self._release(name)
            raise

    def _release(self, name: str) -> None:
        self._hosts[name].active -= 1
        self._free += 1
        self._update(name)

    def _resume(self, name: str) -> None:
        self._hosts[name].paused = False
        self._update(name)

    def _update(self, name: str) -> None:
        self._enqueue(name)
        self._forget_if_idle(name)
        self.dispatch()

    def _enqueue(self, name: str) -> None:
        """Queue a host if it has downloads waiting and may start one."""
        host = self._hosts[name]
        if host.waiting and not host.paused and host.active < self._per_host:
            self._queue.setdefault(name)

    def _next_waiting(self, host: _Host) -> asyncio.Future[None] | None:
        while host.waiting and not host.paused:
            slot = host.waiting.popleft()
            if not slot.done():
                return slot
        return None

    def _forget_if_idle(self, name: str) -> None:
        host = self._hosts[name]
        if not (host.active or host.waiting or host.paused or name in self._queue):
            del self._hosts[name]


def _too_many_pauses(status: int) -> FetchError:
    return FetchError("http_error", "not tried: the host keeps asking for pauses", status=status)


class DownloadBudget:
    """A number of bytes that may be held at once, first come, first served."""

    def __init__(self, total: int) -> None:
        """Allow `total` bytes."""
        self.total = total
        self._free = total
        self._first = asyncio.Lock()  # granted in order, so that a large amount does not wait for ever
        self._released = asyncio.Event()

    async def acquire(self, amount: int) -> None:
        """Wait until `amount` bytes are free, and take them. More than `total` counts as all."""
        amount = min(amount, self.total)
        async with self._first:
            while amount > self._free:
                self._released.clear()
                await self._released.wait()
            self._free -= amount

    def release(self, amount: int) -> None:
        """Give back bytes that were taken."""
        self._free += min(amount, self.total)
        self._released.set()
