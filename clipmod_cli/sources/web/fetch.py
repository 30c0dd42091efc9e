"""One URL → its bytes: redirects, limits, time and content are checked on the way.

Nothing of what a server says is believed: not its lengths, types or encodings. Which hosts may be
asked is the guard's matter, how many at once and how often is that of `clipmod_cli.sources.web.downloads`.
What asks is the layer below httpx2's client: the client would add cookies, redirects of its own and the
environment's proxies, none of which is wanted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

import httpcore2
import httpx2

from clipmod_cli import __version__
from clipmod_cli.sources.spill import SpillFolder
from clipmod_cli.sources.web.addresses import WEB_PORTS, AddressRules, check_redirect, check_url, port_of
from clipmod_cli.sources.web.connections import ConnectionPool
from clipmod_cli.sources.web.errors import FetchError, translate
from clipmod_cli.sources.web.guard import GuardedBackend
from clipmod_cli.sources.web.hosts import DownloadBudget
from clipmod_cli.sources.web.responses import (
    BodyReader,
    ByteCounter,
    DownloadedBody,
    drain,
    is_body,
    left_of,
    read_location,
    wrong_status,
)

VIDEO_S = 300.0
"""For a video of 500 MB that comes at 14 Mbit/s."""

USER_AGENT = f"clipmod/{__version__} (+https://github.com/clipmod/clipmod)"
ACCEPT = "image/*, video/*;q=0.9, */*;q=0.5"

Turn: TypeAlias = Callable[[str], AbstractAsyncContextManager[None]]
"""A host's name → what is held while it is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """Where a download may go and what it may cost.

    Attributes:
        access: which addresses and ports may be asked.
        headers: are sent to the host of the URL as given, never to another one.
        total_s: for one try, its redirects included, waiting for a turn not.
        connect_s: for a connection to be made.
        read_s: for the next bytes to come.
        max_bytes: of a picture, as they come.
        max_redirects: that are followed.
        video_bytes: of a video or an archive.
        video_s: in place of `total_s` for one of these.
        archives: are downloaded too; whoever turns this on unpacks them.
    """

    access: AddressRules = field(default_factory=AddressRules)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # may hold a token
    total_s: float = 30.0
    connect_s: float = 5.0
    read_s: float = 10.0
    max_bytes: int = 50_000_000
    max_redirects: int = 3
    video_bytes: int = 500_000_000
    video_s: float = VIDEO_S
    archives: bool = False


@dataclass(slots=True)
class _Hop:
    """One request on the way to a body."""

    url: httpx2.URL
    headers: tuple[tuple[str, str], ...]
    left_s: float
    answered: bool = False
    used: bool = False


class Fetcher:
    """Downloads URLs over shared connections. An async context manager; belongs to one event loop."""

    def __init__(
        self,
        rules: FetchRules,
        *,
        connections: int = 64,
        memory: DownloadBudget | None = None,
        folder: SpillFolder | None = None,
        traffic: ByteCounter | None = None,
        backend: GuardedBackend | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            rules: where to and how much.
            connections: open at once, idle ones among them.
            memory: what bodies are held in, larger than `rules.max_bytes`.
            folder: where videos and archives go.
            traffic: counts the bytes that come.
            backend: makes the connections.
            ssl_context: whom to trust; default the system's authorities.
        """
        self.rules = rules
        self.memory = memory or DownloadBudget(16 * rules.max_bytes)
        self.folder = folder or SpillFolder()
        self._reader = BodyReader(
            memory=self.memory,
            folder=self.folder,
            max_bytes=rules.max_bytes,
            video_bytes=rules.video_bytes,
            video_s=rules.video_s,
            archives=rules.archives,
            traffic=traffic or ByteCounter(),
        )
        self._connections = ConnectionPool(
            backend or GuardedBackend(rules.access), ssl_context or httpx2.create_ssl_context(), connections
        )
        self._timeout = {"connect": rules.connect_s, "read": rules.read_s, "write": rules.read_s}

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._connections.close()

    async def fetch(self, source: str, turn: Turn = lambda _: contextlib.nullcontext()) -> DownloadedBody:
        """Return what a URL gives, after at most `rules.max_redirects` redirects.

        Args:
            source: the URL as given.
            turn: is entered with the host's name for each request.

        Raises:
            FetchError: whatever went wrong, whoever's fault it is.
        """
        here = first = check_url(source)
        left_s = self.rules.total_s
        reached: str | None = None
        for _ in range(self.rules.max_redirects + 1):
            hop = _Hop(here, self.rules.headers if _same_place(first, here) else (), left_s)
            try:
                async with turn(host_of(here)):
                    outcome = await self._ask(hop)
                    reached = None if here is first else str(here)
            except FetchError as e:
                e.final_url = str(here) if hop.answered and here is not first else reached
                raise
            if isinstance(outcome, DownloadedBody):
                return replace(outcome, final_url=reached)
            here, left_s = outcome, hop.left_s
        error = FetchError("too_many_redirects", f"there are more than {self.rules.max_redirects} redirects")
        error.final_url = reached
        raise error

    async def _ask(self, hop: _Hop) -> DownloadedBody | httpx2.URL:
        """Return what one request gives: a body, or where to go on."""
        try:
            async with asyncio.timeout(hop.left_s) as clock:
                try:
                    return await self._request_twice(hop, clock)
                finally:
                    hop.left_s = left_of(clock)
        except Exception as e:
            raise translate(e, answered=hop.answered) from e

    async def _request_twice(self, hop: _Hop, clock: asyncio.Timeout) -> DownloadedBody | httpx2.URL:
        """Ask once more, over a new connection, if the server closed a kept one just as it was used."""
        try:
            return await self._request(hop, clock)
        except Exception as e:
            if hop.answered or not hop.used or not translate(e, answered=False).again:
                raise
        return await self._request(hop, clock, new=True)

    async def _request(
        self, hop: _Hop, clock: asyncio.Timeout, *, new: bool = False
    ) -> DownloadedBody | httpx2.URL:
        url = hop.url
        where = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        async with self._connections.lend(where, new=new) as loan:
            hop.used = loan.used
            async with loan.connection.stream(
                "GET", where, headers=_headers(hop), extensions={"timeout": self._timeout}
            ) as response:
                hop.answered = True
                async with aclosing(response.aiter_stream()) as chunks:
                    if is_body(response):
                        return await self._reader.read(response, chunks, clock)
                    await drain(response, chunks)
        location = read_location(response)
        if location is None:
            raise wrong_status(response)
        return check_redirect(url, location)


def host_of(url: httpx2.URL) -> str:
    """Return whom a URL asks: the host's name, with the port where it is not one of the web's."""
    host, port = url.raw_host.decode(), port_of(url)
    return host if port in WEB_PORTS else f"{host}:{port}"


def _headers(hop: _Hop) -> list[tuple[bytes, bytes]]:
    """Return what is sent: ours, the user's in place of them, and what the user cannot change."""
    given = {name.lower(): (name.encode(), value.encode()) for name, value in hop.headers}
    own = {"user-agent": (b"User-Agent", USER_AGENT.encode()), "accept": (b"Accept", ACCEPT.encode())}
    return [(b"Host", hop.url.netloc), *{**own, **given}.values(), (b"Accept-Encoding", b"identity")]


def _same_place(first: httpx2.URL, here: httpx2.URL) -> bool:
    """Return whether the headers meant for one URL may go to another: same host and port, or now with TLS."""
    if first.raw_host != here.raw_host:
        return False
    ports = port_of(first), port_of(here)
    return (first.scheme == here.scheme and ports[0] == ports[1]) or ports == (80, 443)
