"""A pool of HTTP connections, each leased for one request at a time and kept open for the next.

httpcore2's own pool scans all of its connections twice for each request, which at 64 connections costs
more than the request. Queueing of requests is left to `clipmod_cli.sources.web.hosts`.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore2

IDLE_S = 5.0
"""How long an idle connection is kept open: most servers keep theirs at least as long."""


class ConnectionPool:
    """Opens, leases and keeps connections; belongs to one event loop."""

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
