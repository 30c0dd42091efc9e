"""Open connections, lent for one request at a time and kept for the next one to the same place.

The library's own pool goes through all of its connections twice for each request, which at sixty-four
of them costs more than the request. It also queues requests, and that is the business of
`clipmod_cli.sources.web.hosts` here.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpcore2

IDLE_S = 5.0
"""How long a connection is kept for another request: most servers keep theirs at least as long."""


@dataclass(frozen=True, slots=True)
class LeasedConnection:
    """A connection, and whether it was used before: its server may just be closing it."""

    connection: httpcore2.AsyncHTTPConnection
    used: bool


class ConnectionPool:
    """Makes, lends and keeps connections; belongs to one event loop."""

    def __init__(
        self, backend: httpcore2.AsyncNetworkBackend, ssl_context: ssl.SSLContext, most: int
    ) -> None:
        """Connect through `backend` alone; an idle connection makes way where there would be over `most`."""
        self._backend = backend
        self._ssl_context = ssl_context
        self._most = most
        self._lent = 0
        self._idle: OrderedDict[httpcore2.AsyncHTTPConnection, str] = OrderedDict()
        self._by_place: dict[str, list[httpcore2.AsyncHTTPConnection]] = {}

    @asynccontextmanager
    async def lend(self, url: httpcore2.URL, *, new: bool = False) -> AsyncIterator[LeasedConnection]:
        """Give a connection to where a URL points, for one request within the block.

        Args:
            url: its scheme, host and port count.
            new: take none that was used before.
        """
        place = str(url.origin)
        kept = None if new else await self._take(place)
        connection = kept or await self._make(url.origin)
        self._lent += 1
        try:
            yield LeasedConnection(connection, used=kept is not None)
        finally:
            self._lent -= 1
            if connection.is_connected() and connection.is_idle():
                self._keep(place, connection)
            else:
                await connection.aclose()

    async def close(self) -> None:
        """Close what nobody uses."""
        while self._idle:
            await self._drop_oldest()

    async def _make(self, origin: httpcore2.Origin) -> httpcore2.AsyncHTTPConnection:
        if self._idle and self._lent + len(self._idle) >= self._most:
            await self._drop_oldest()
        return httpcore2.AsyncHTTPConnection(
            origin, ssl_context=self._ssl_context, keepalive_expiry=IDLE_S, network_backend=self._backend
        )

    async def _take(self, place: str) -> httpcore2.AsyncHTTPConnection | None:
        """Return a kept connection that still stands, the one used last."""
        while kept := self._by_place.get(place):
            connection = kept[-1]
            self._forget(connection)
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _keep(self, place: str, connection: httpcore2.AsyncHTTPConnection) -> None:
        self._idle[connection] = place
        self._by_place.setdefault(place, []).append(connection)

    async def _drop_oldest(self) -> None:
        connection = next(iter(self._idle))
        self._forget(connection)
        await connection.aclose()

    def _forget(self, connection: httpcore2.AsyncHTTPConnection) -> None:
        place = self._idle.pop(connection)
        kept = self._by_place[place]
        kept.remove(connection)
        if not kept:
            del self._by_place[place]
