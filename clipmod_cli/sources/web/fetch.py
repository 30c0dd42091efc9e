"""One URL → its bytes, with checks of redirects, limits, time and content.

Lengths, types and encodings that a server declares are not trusted. `guard` checks addresses, `downloads`
limits concurrency and retries. Requests use httpcore2, since httpx2's client would add cookies, redirects
of its own and the environment's proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import httpcore2
import httpx2

from clipmod_cli import __version__
from clipmod_cli.sources.web.addresses import WEB_PORTS, FetchRules, check_redirect, check_url, port_of
from clipmod_cli.sources.web.errors import FetchError, translate
from clipmod_cli.sources.web.guard import GuardedBackend
from clipmod_cli.sources.web.responses import (
    BODIES,
    REDIRECTS,
    BodyReader,
    ByteCounter,
    DownloadedBody,
    drain,
    read_header,
    status_error,
    time_left,
)

USER_AGENT = f"clipmod/{__version__} (+https://github.com/clipmod/clipmod)"
ACCEPT = "image/*, video/*;q=0.9, */*;q=0.5"

IDLE_S = 5.0
"""How long an idle connection is kept open: most servers keep theirs at least as long."""

Slot: TypeAlias = Callable[[str], AbstractAsyncContextManager[None]]
"""A host → a context manager that is held during each request to it."""


@dataclass(slots=True)
class _Request:
    """One request of a chain of redirects."""

    url: httpx2.URL
    headers: tuple[tuple[str, str], ...]
    time_left_s: float
    answered: bool = False
    reused: bool = False


class Fetcher:
    """Downloads URLs over shared connections. An async context manager; belongs to one event loop."""

    def __init__(
        self,
        rules: FetchRules,
        *,
        max_connections: int = 64,
        traffic: ByteCounter | None = None,
        backend: GuardedBackend | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Connect to nothing yet; by default through a backend that applies `rules.access`.

        At most `max_connections` are open at once, idle ones included; `traffic` counts the bytes received.
        """
        self.rules = rules
        self.bodies = BodyReader(rules, traffic or ByteCounter())
        self._pool = ConnectionPool(
            backend or GuardedBackend(rules.access),
            ssl_context or httpx2.create_ssl_context(),
            max_connections,
        )
        self._timeout = {"connect": rules.connect_s, "read": rules.read_s, "write": rules.read_s}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    async def fetch(self, source: str, slot: Slot = lambda _: contextlib.nullcontext()) -> DownloadedBody:
        """Return what a URL gives, after its redirects; `slot` is held during each request.

        Raises FetchError, and no other error.
        """
        here = first = check_url(source)
        time_left_s = self.rules.total_s
        reached: str | None = None
        for _ in range(self.rules.max_redirects + 1):
            headers = self.rules.headers if _is_same_host(first, here) else ()
            request = _Request(here, headers, time_left_s)
            try:
                async with slot(host_of(here)):
                    outcome = await self._request(request)
                    reached = None if here is first else str(here)
            except FetchError as e:
                e.final_url = str(here) if request.answered and here is not first else reached
                raise
            if isinstance(outcome, DownloadedBody):
                return replace(outcome, final_url=reached)
            here, time_left_s = outcome, request.time_left_s
        error = FetchError("too_many_redirects", f"there are more than {self.rules.max_redirects} redirects")
        error.final_url = reached
        raise error

    async def _request(self, request: _Request) -> DownloadedBody | httpx2.URL:
        """Return the body of one request, or the target of its redirect."""
        try:
            async with asyncio.timeout(request.time_left_s) as clock:
                try:
                    return await self._send_twice(request, clock)
                finally:
                    request.time_left_s = time_left(clock)
        except Exception as e:
            raise translate(e, answered=request.answered) from e

    async def _send_twice(self, request: _Request, clock: asyncio.Timeout) -> DownloadedBody | httpx2.URL:
        """Repeat a request over a new connection if the server closed a reused one at that moment."""
        try:
            return await self._send(request, clock)
        except Exception as e:
            if request.answered or not request.reused or not translate(e, answered=False).again:
                raise
        return await self._send(request, clock, fresh=True)

    async def _send(
        self, request: _Request, clock: asyncio.Timeout, *, fresh: bool = False
    ) -> DownloadedBody | httpx2.URL:
        url = request.url
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        async with (
            self._pool.lease(target, fresh=fresh) as (connection, request.reused),
            connection.stream(
                "GET", target, headers=_headers(request), extensions={"timeout": self._timeout}
            ) as response,
        ):
            request.answered = True
            async with aclosing(response.aiter_stream()) as chunks:
                if response.status in BODIES:
                    return await self.bodies.read(response, chunks, clock)
                await drain(response, chunks)
        location = read_header(response, "location")
        if location is None or response.status not in REDIRECTS:
            raise status_error(response)
        return check_redirect(url, location)


class ConnectionPool:
    """Opens connections, leases each for one request at a time, and keeps them; belongs to one event loop.

    httpcore2's own pool scans all of its connections twice for each request, which at 64 connections costs
    more than the request.
    """

    def __init__(
        self, backend: httpcore2.AsyncNetworkBackend, ssl_context: ssl.SSLContext, max_connections: int
    ) -> None:
        """Connect through `backend` alone; at `max_connections` the oldest idle connection is closed."""
        self._backend = backend
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        self._leased = 0
        self._idle: OrderedDict[httpcore2.AsyncHTTPConnection, str] = OrderedDict()

    @asynccontextmanager
    async def lease(
        self, url: httpcore2.URL, *, fresh: bool = False
    ) -> AsyncIterator[tuple[httpcore2.AsyncHTTPConnection, bool]]:
        """Lease a connection to the origin of `url`, a new one if `fresh`, for one request in the block.

        Yields it and whether it was used before: its server may just be closing it.
        """
        origin = str(url.origin)
        kept = None if fresh else await self._take_idle(origin)
        connection = kept or await self._open(url.origin)
        self._leased += 1
        try:
            yield connection, kept is not None
        finally:
            self._leased -= 1
            if connection.is_connected() and connection.is_idle():
                self._idle[connection] = origin
            else:
                await connection.aclose()

    async def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            await self._close_oldest()

    async def _open(self, origin: httpcore2.Origin) -> httpcore2.AsyncHTTPConnection:
        if self._idle and self._leased + len(self._idle) >= self._max_connections:
            await self._close_oldest()
        return httpcore2.AsyncHTTPConnection(
            origin, ssl_context=self._ssl_context, keepalive_expiry=IDLE_S, network_backend=self._backend
        )

    async def _take_idle(self, origin: str) -> httpcore2.AsyncHTTPConnection | None:
        """Return the idle connection that was used last and is still open."""
        while connection := next((c for c, of in reversed(self._idle.items()) if of == origin), None):
            del self._idle[connection]
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def _close_oldest(self) -> None:
        connection, _ = self._idle.popitem(last=False)
        await connection.aclose()


def host_of(url: httpx2.URL) -> str:
    """Return the host of a URL, with the port unless it is 80 or 443."""
    host, port = url.raw_host.decode(), port_of(url)
    return host if port in WEB_PORTS else f"{host}:{port}"


def _headers(request: _Request) -> list[tuple[bytes, bytes]]:
    """Return the headers: ours, overridden by the user's, and those that the user cannot change."""
    given = {name.lower(): (name.encode(), value.encode()) for name, value in request.headers}
    own = {"user-agent": (b"User-Agent", USER_AGENT.encode()), "accept": (b"Accept", ACCEPT.encode())}
    return [(b"Host", request.url.netloc), *{**own, **given}.values(), (b"Accept-Encoding", b"identity")]


def _is_same_host(first: httpx2.URL, here: httpx2.URL) -> bool:
    """Return whether both URLs have the same host and port, or the second one is an upgrade to TLS."""
    if first.raw_host != here.raw_host:
        return False
    ports = port_of(first), port_of(here)
    return (first.scheme == here.scheme and ports[0] == ports[1]) or ports == (80, 443)
