"""Names → addresses, by the system's resolver, remembered for a few seconds. Judges no address."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Generic, TypeAlias, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Resolve: TypeAlias = Callable[[str], Sequence[str]]
"""Blocking: a name → its addresses as text; raises OSError or UnicodeError."""

NAME_KEPT_S = 10.0
"""How long an answer of DNS is used again: long enough for a host's next URLs, shorter than most TTLs."""

REMEMBERED = 10_000
"""Hosts that anything is remembered of, at most."""


class BoundedDict(Generic[K, V]):
    """A dictionary of bounded size: the oldest entry goes when it is full."""

    def __init__(self, most: int = REMEMBERED) -> None:
        """Remember at most this many."""
        self._most = most
        self._known: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what was put there; None if that was nothing, or too long ago."""
        return self._known.get(key)

    def put(self, key: K, value: V) -> None:
        """Remember a value, in place of what was there."""
        self.forget(key)
        if len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[key] = value

    def forget(self, key: K) -> None:
        """Remember nothing there."""
        self._known.pop(key, None)


def resolve_name(host: str) -> Sequence[str]:
    """Return all addresses of a name, as the system resolves it; blocks."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))


class HostResolver:
    """Resolves names, each in a thread of its own, and remembers the answers for a few seconds.

    Threads, because the system's resolver blocks for as long as it likes; daemons, because the
    program's end must not wait for it. Several requests for one name share one look-up.
    """

    def __init__(self, resolve: Resolve = resolve_name) -> None:
        self._resolve = resolve
        self._known: BoundedDict[str, tuple[float, asyncio.Future[Sequence[str]]]] = BoundedDict()

    async def find(self, host: str) -> Sequence[str]:
        """Return the addresses of a name, or the address itself.

        Raises:
            OSError: if it cannot be resolved.
            UnicodeError: if it is no name.
        """
        if _is_address(host):
            return (host,)
        known = self._known.get(host)
        if known is None or known[0] < time.monotonic() or _has_passed(known[1]):
            known = (time.monotonic() + NAME_KEPT_S, self._ask(host))
            self._known.put(host, known)
        _, answer = known
        return await asyncio.shield(answer)  # one that gives up must not spoil it for the others

    def _ask(self, host: str) -> asyncio.Future[Sequence[str]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()
        answer.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # nobody may be left to ask

        def tell(method: Callable[[Any], None], value: object) -> None:
            if not answer.done():
                method(value)

        def work() -> None:
            try:
                outcome = (answer.set_result, tuple(self._resolve(host)))
            except Exception as e:  # noqa: BLE001 — raised where it is waited for
                outcome = (answer.set_exception, e)  # type: ignore[assignment]
            try:
                loop.call_soon_threadsafe(tell, *outcome)
            except RuntimeError:
                return  # the loop is closed: the run is over

        threading.Thread(target=work, name="clipmod-resolve", daemon=True).start()
        return answer


def may_pass(error: BaseException | None) -> bool:
    """Return whether a name may well be resolved soon: a server of DNS did not answer, or not yet."""
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN


def _has_passed(answer: asyncio.Future[Sequence[str]]) -> bool:
    return answer.done() and not answer.cancelled() and may_pass(answer.exception())


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
