"""Host names → addresses, by the system's resolver, cached for a few seconds. Does not check addresses."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from ipaddress import ip_address
from typing import TypeAlias, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Resolve: TypeAlias = Callable[[str], Sequence[str]]
"""Blocking: a name → its addresses as text; raises OSError or UnicodeError."""

CACHE_S = 10.0
"""How long an answer of DNS is used again: long enough for a host's next URLs, shorter than most TTLs."""

MAX_HOSTS = 10_000
"""Hosts of which any state is kept."""


class BoundedDict(OrderedDict[K, V]):
    """A dictionary of bounded size: setting an item evicts the one that was set longest ago."""

    def __init__(self, max_items: int = MAX_HOSTS) -> None:
        super().__init__()
        self._max_items = max_items

    def __setitem__(self, key: K, value: V) -> None:
        """Set an item and make it the newest."""
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._max_items:
            self.popitem(last=False)


def resolve_name(host: str) -> Sequence[str]:
    """Return all addresses of a name, as the system resolves it; blocks."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))


class HostResolver:
    """Resolves each name in a thread of its own; concurrent requests for one name share one look-up.

    Threads, because the system's resolver blocks without limit; daemons, because the end of the program
    must not wait for it.
    """

    def __init__(self, resolve: Resolve = resolve_name) -> None:
        self._resolve = resolve
        self._cache: BoundedDict[str, tuple[float, asyncio.Future[Sequence[str]]]] = BoundedDict()

    async def find(self, host: str) -> Sequence[str]:
        """Return the addresses of a name, or the address itself; raises OSError or UnicodeError."""
        if _is_address(host):
            return (host,)
        cached = self._cache.get(host)
        if cached is None or cached[0] < time.monotonic() or _failed_temporarily(cached[1]):
            cached = self._cache[host] = (time.monotonic() + CACHE_S, self._start(host))
        return await asyncio.shield(cached[1])  # cancelling one caller must not cancel the others

    def _start(self, host: str) -> asyncio.Future[Sequence[str]]:
        found: Future[Sequence[str]] = Future()

        def work() -> None:
            try:
                found.set_result(tuple(self._resolve(host)))
            except Exception as e:  # noqa: BLE001 — raised in `find`
                found.set_exception(e)

        answer = asyncio.wrap_future(found)
        # reads the exception: asyncio would log it if all callers were cancelled
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        threading.Thread(target=work, name="clipmod-resolve", daemon=True).start()
        return answer


def is_temporary(error: BaseException | None) -> bool:
    """Return whether a name may be resolved soon: a DNS server did not answer, or not yet."""
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN


def _failed_temporarily(answer: asyncio.Future[Sequence[str]]) -> bool:
    return answer.done() and not answer.cancelled() and is_temporary(answer.exception())


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
