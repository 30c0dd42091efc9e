"""The SSRF guard: a network backend that checks addresses at the moment a connection is made.

A name is resolved once, every answer is checked, and the connection goes to one of those very
addresses; the name stays for TLS and the Host header. So redirects and DNS rebinding are covered.
The rules are in `clipmod_cli.sources.web.addresses`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from ipaddress import ip_address
from typing import Any, TypeAlias, TypeVar

import httpcore2

from clipmod_cli.sources.web.addresses import AddressRules
from clipmod_cli.sources.web.errors import FetchError

MAX_ADDRESSES = 4
"""Addresses of one name that are tried; the time for connecting is divided among them."""

MAX_FAILURES = 16
"""Failed connections in a row, after which a host is not tried for `COOLDOWN_S`: each costs seconds, and a
list may hold thousands of URLs of a host that is gone."""

COOLDOWN_S = 60.0

CACHE_S = 10.0
"""How long an answer of DNS is used again: long enough for a host's next URLs, shorter than most TTLs."""

MAX_HOSTS = 10_000
"""Hosts of which any state is kept."""

K = TypeVar("K")
V = TypeVar("V")

Resolve: TypeAlias = Callable[[str], Sequence[str]]
"""Blocking: a name → its addresses as text; raises OSError or UnicodeError."""


class BoundedDict(OrderedDict[K, V]):
    """A dictionary of bounded size: setting an item evicts the one that was set longest ago."""

    def __init__(self, max_items: int = MAX_HOSTS) -> None:
        super().__init__()
        self._max_items = max_items

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._max_items:
            self.popitem(last=False)


def resolve_name(host: str) -> Sequence[str]:
    """Return all addresses of a name, as the system resolves it; blocks."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))


class HostResolver:
    """Resolves each name in a daemon thread, since the system's resolver blocks without limit.

    Concurrent requests for one name share one look-up.
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


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to allowed addresses only, and to nothing by any other way."""

    def __init__(
        self,
        rules: AddressRules,
        *,
        resolver: HostResolver | None = None,
        inner: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        """Check the connections that `inner` makes; `inner` receives addresses, never names."""
        self._rules = rules
        self._resolver = resolver or HostResolver()
        self._inner = inner or httpcore2.AnyIOBackend()
        self._failures: BoundedDict[tuple[str, int], tuple[int, float]] = BoundedDict()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 — the library's interface
        *_: object,
        **__: object,
    ) -> httpcore2.AsyncNetworkStream:
        """Return a connection to an address of `host` that was checked before.

        Raises:
            FetchError: `blocked_address`, `dns_error`, `invalid_url`, `connect_error`.
        """
        self._check_failures(host, port)
        rules = self._rules.of_connection(host, port)
        if not rules.allows_port(port):
            raise FetchError("blocked_address", f"port {port} is not allowed (--allow-ports opens others)")
        try:
            async with asyncio.timeout(timeout) as limit:
                addresses = await self._allowed_addresses(host, rules)
                stream = await self._connect_one(addresses, port, limit)
        except TimeoutError as e:
            self._count_failure(host, port)
            raise httpcore2.ConnectTimeout from e
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
            self._count_failure(host, port)
            raise
        self._failures.pop((host, port), None)
        return _close_if_tls_fails(stream)

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore2.AsyncNetworkStream:
        """Refuse: no URL names a local socket."""
        raise FetchError("blocked_address", "local sockets are not allowed")

    async def _allowed_addresses(self, host: str, rules: AddressRules) -> Sequence[str]:
        """Return the host's addresses if every one of them is allowed."""
        try:
            addresses = await self._resolver.find(host)
        except UnicodeError as e:
            raise FetchError("invalid_url", "the URL has no valid host") from e
        except OSError as e:
            raise FetchError("dns_error", "the host name cannot be resolved", again=is_temporary(e)) from e
        if not addresses:
            raise FetchError("dns_error", "the host name has no address")
        if not all(rules.allows(address) for address in addresses):
            raise FetchError(
                "blocked_address",
                "the host's address is not public (--allow-host opens one host, --allow-private all)",
            )
        return addresses

    async def _connect_one(
        self, addresses: Sequence[str], port: int, limit: asyncio.Timeout
    ) -> httpcore2.AsyncNetworkStream:
        """Return a connection to the first address that answers; the time is divided among them."""
        tried = addresses[:MAX_ADDRESSES]
        for position, address in enumerate(tried, 1):
            until = limit.when()
            left = None if until is None else until - asyncio.get_running_loop().time()
            share = None if left is None else max(left, 0.0) / (len(tried) - position + 1)
            try:
                return await self._inner.connect_tcp(address, port, share)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if position == len(tried):
                    raise
        raise httpcore2.ConnectError("no address")

    def _check_failures(self, host: str, port: int) -> None:
        failures, since = self._failures.get((host, port)) or (0, 0.0)
        if failures >= MAX_FAILURES and time.monotonic() - since < COOLDOWN_S:
            raise FetchError(
                "connect_error", f"not tried: the last {failures} connections to this host failed"
            )

    def _count_failure(self, host: str, port: int) -> None:
        failures, _ = self._failures.get((host, port)) or (0, 0.0)
        self._failures[host, port] = (failures + 1, time.monotonic())


def _close_if_tls_fails(stream: httpcore2.AsyncNetworkStream) -> httpcore2.AsyncNetworkStream:
    """Return the connection, which is now closed also if its TLS handshake is cancelled."""
    start_tls = stream.start_tls

    async def start_or_close(*args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        try:
            return await start_tls(*args, **kwargs)
        except BaseException:
            await stream.aclose()
            raise

    stream.start_tls = start_or_close  # type: ignore[method-assign]
    return stream
