"""The guarded way to a host: a network backend that asks the rules at the moment a connection is made.

A name is resolved once, every answer is checked, and the connection goes to one of those very
addresses; the name stays for TLS and the Host header. So redirects are covered, and names that
answer differently each time. What may be asked is `clipmod_cli.sources.addresses`' matter.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any, TypeAlias

import httpcore2

from clipmod_cli.sources.addresses import Access
from clipmod_cli.sources.fetch_errors import FetchError

Resolve: TypeAlias = Callable[[str], Sequence[str]]
"""Blocking: a name → its addresses as text; raises OSError or UnicodeError."""

NAME_KEPT_S = 10.0
"""How long an answer of DNS is used again: long enough for a host's next URLs, shorter than most TTLs."""

NAMES_KEPT = 10_000
"""Names that are remembered at most, of those that answered and of those that did not."""

TRIED_ADDRESSES = 4
"""Of one name. A name may have hundreds, and the time for connecting is shared out among them."""

GIVE_UP_AFTER = 16
"""Failed connections in a row, after which a host's other URLs are not tried for a while: each costs
seconds, and a list may hold thousands of a host that is gone."""

LEFT_ALONE_S = 60.0
"""For how long they are not tried."""


def resolve_name(host: str) -> Sequence[str]:
    """Return all addresses of a name, as the system resolves it; blocks."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))


class Names:
    """Resolves names, each in a thread of its own, and remembers the answers for a few seconds.

    Threads, because the system's resolver blocks for as long as it likes; daemons, because the
    program's end must not wait for it. Several requests for one name share one look-up.
    """

    def __init__(self, resolve: Resolve = resolve_name) -> None:
        self._resolve = resolve
        self._known: dict[str, tuple[float, asyncio.Future[Sequence[str]]]] = {}

    async def find(self, host: str) -> Sequence[str]:
        """Return the addresses of a name, or the address itself.

        Raises:
            OSError: if it cannot be resolved.
            UnicodeError: if it is no name.
        """
        if _is_address(host):
            return (host,)
        until, answer = self._known.get(host, (0.0, None))
        if answer is None or until < time.monotonic():
            answer = self._ask(host)
            _remember(self._known, host, (time.monotonic() + NAME_KEPT_S, answer))
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


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to allowed addresses only, and to nothing by any other way."""

    def __init__(
        self,
        access: Access,
        *,
        names: Names | None = None,
        inner: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        """Guard the connections that `inner` makes; it is given addresses, never names."""
        self._access = access
        self._names = names or Names()
        self._inner = inner or httpcore2.AnyIOBackend()
        self._silent: dict[tuple[str, int], tuple[int, float]] = {}

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 — the library's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Return a connection to an address of `host` that was checked before.

        Raises:
            FetchError: `blocked_address`, `dns_error`, `invalid_url`; `connect_error` or `timeout` for a
                host that is left alone for a while.
        """
        self._check_patience(host, port)
        if not self._access.allows_port(port):
            raise FetchError("blocked_address", f"port {port} is not allowed (--allow-ports opens others)")
        try:
            async with asyncio.timeout(timeout) as limit:
                addresses = await self._allowed_addresses(host)
                stream = await self._connect_one(addresses, port, limit, local_address, socket_options)
        except TimeoutError as e:
            self._count_failure(host, port)
            raise httpcore2.ConnectTimeout from e
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
            self._count_failure(host, port)
            raise
        self._silent.pop((host, port), None)
        return stream

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore2.AsyncNetworkStream:
        """Refuse: no URL names one."""
        raise FetchError("blocked_address", "local sockets are not allowed")

    async def sleep(self, seconds: float) -> None:
        """Wait, in seconds."""
        await asyncio.sleep(seconds)

    async def _allowed_addresses(self, host: str) -> Sequence[str]:
        """Return the host's addresses if every one of them is allowed."""
        try:
            found = await self._names.find(host)
        except UnicodeError as e:
            raise FetchError("invalid_url", "the URL names no valid host") from e
        except OSError as e:
            soon = isinstance(e, socket.gaierror) and e.errno == socket.EAI_AGAIN
            raise FetchError("dns_error", "the host's name cannot be resolved", again=soon) from e
        if not found:
            raise FetchError("dns_error", "the host's name has no address")
        if not all(self._access.allows(address) for address in found):
            raise FetchError(
                "blocked_address",
                "the host's address is not a public one (--allow-private opens private ones)",
            )
        return found

    async def _connect_one(
        self,
        addresses: Sequence[str],
        port: int,
        limit: asyncio.Timeout,
        local_address: str | None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None,
    ) -> httpcore2.AsyncNetworkStream:
        """Return a connection to the first address that answers; the time is shared out among them."""
        tried = addresses[:TRIED_ADDRESSES]
        for position, address in enumerate(tried, 1):
            until = limit.when()
            left = None if until is None else until - asyncio.get_running_loop().time()
            share = None if left is None else max(left, 0.0) / (len(tried) - position + 1)
            try:
                return await self._inner.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if position == len(tried):
                    raise
        raise httpcore2.ConnectError("no address")

    def _check_patience(self, host: str, port: int) -> None:
        failures, since = self._silent.get((host, port), (0, 0.0))
        if failures >= GIVE_UP_AFTER and time.monotonic() - since < LEFT_ALONE_S:
            raise FetchError(
                "connect_error", f"not tried: the last {failures} connections to this host failed as well"
            )

    def _count_failure(self, host: str, port: int) -> None:
        failures, _ = self._silent.get((host, port), (0, 0.0))
        _remember(self._silent, (host, port), (failures + 1, time.monotonic()))


def _remember(known: dict[Any, Any], key: object, value: object) -> None:
    """Put something into a bounded memory; the oldest goes when it is full."""
    known.pop(key, None)
    if len(known) >= NAMES_KEPT:
        del known[next(iter(known))]
    known[key] = value


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
