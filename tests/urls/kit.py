"""What the tests of downloading share: a picture, names that resolve as told, and one-line fetching."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import httpcore2
import pytest
from PIL import Image

from clipmod_cli.sources.web.addresses import AddressRules, FetchRules
from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.sources.web.fetch import Fetcher
from clipmod_cli.sources.web.guard import GuardedBackend, HostResolver, resolve_name
from clipmod_cli.sources.web.responses import DownloadedBody
from tests.urls.server import AUTHORITY

PUBLIC = "93.184.216.34"
"""An address of the public internet, to which nothing is ever sent."""

PRIVATE = AddressRules(private=True)


@cache
def picture(side: int = 8) -> bytes:
    """Return a PNG."""
    buffer = io.BytesIO()
    Image.effect_noise((side, side), 60).save(buffer, "PNG")
    return buffer.getvalue()


@cache
def trusting() -> ssl.SSLContext:
    """Return a context that trusts the tests' certificate alone."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


class Resolver:
    """Resolves names as it is told, each time with the next answer; other names as the system does."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(said) for name, said in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        said = self._answers.get(host)
        if said is None:
            return resolve_name(host)
        return said.pop(0) if len(said) > 1 else said[0]


class Detour(httpcore2.AsyncNetworkBackend):
    """Takes connections to the public address to a port of loopback; writes down where all of them went."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._inner = httpcore2.AnyIOBackend()
        self.connected: list[str] = []

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        self.connected.append(host)
        if host == PUBLIC:
            host, port = "127.0.0.1", self._port
        return await self._inner.connect_tcp(host, port, *args, **kwargs)


def guarded(
    access: AddressRules, resolver: Resolver, inner: httpcore2.AsyncNetworkBackend | None = None
) -> GuardedBackend:
    """Return the real guard with a resolver of its own."""
    return GuardedBackend(access, resolver=HostResolver(resolver), inner=inner)


def fetch_all(
    urls: Iterable[str], rules: FetchRules | None = None, backend: GuardedBackend | None = None
) -> list[DownloadedBody | FetchError]:
    """Fetch URLs one after the other by one fetcher; return what each gave."""

    async def run() -> list[DownloadedBody | FetchError]:
        given: list[DownloadedBody | FetchError] = []
        how = rules or FetchRules(access=PRIVATE)
        async with Fetcher(how, backend=backend, ssl_context=trusting()) as fetcher:
            for url in urls:
                try:
                    given.append(await fetcher.fetch(url))
                except FetchError as e:
                    given.append(e)
        return given

    return asyncio.run(run())


def fetch(url: str, backend: GuardedBackend | None = None, **rules: Any) -> DownloadedBody:
    """Return what a URL gives; raises FetchError."""
    (given,) = fetch_all([url], FetchRules(**{"access": PRIVATE, **rules}), backend)
    if isinstance(given, FetchError):
        raise given
    return given


def fail(url: str, **rules: Any) -> FetchError:
    """Return the error that a URL gives."""
    with pytest.raises(FetchError) as caught:
        fetch(url, **rules)
    return caught.value
