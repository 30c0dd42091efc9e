"""The guarded way to a host: a network backend that asks the rules at the moment a connection is made.

A name is resolved once, every answer is checked, and the connection goes to one of those very
addresses; the name stays for TLS and the Host header. So redirects are covered, and names that
answer differently each time. What may be asked is `clipmod_cli.sources.web.addresses`' matter.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore2

from clipmod_cli.sources.web.addresses import AddressRules
from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.sources.web.resolver import BoundedDict, HostResolver, may_pass

TRIED_ADDRESSES = 4
"""Of one name. A name may have hundreds, and the time for connecting is shared out among them."""

GIVE_UP_AFTER = 16
"""Failed connections in a row, after which a host's other URLs are not tried for a while: each costs
seconds, and a list may hold thousands of a host that is gone."""

LEFT_ALONE_S = 60.0
"""For how long they are not tried."""


class _Stream(httpcore2.AsyncNetworkStream):
    """A connection that is closed when it cannot be made secure, also where that was cut short.

    The library leaves it open where a time limit or Ctrl-C ends the handshake; the event loop
    would then keep it for ever.
    """

    def __init__(self, inner: httpcore2.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self._inner.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to allowed addresses only, and to nothing by any other way."""

    def __init__(
        self,
        access: AddressRules,
        *,
        names: HostResolver | None = None,
        inner: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        """Guard the connections that `inner` makes; it is given addresses, never names."""
        self._access = access
        self._names = names or HostResolver()
        self._inner = inner or httpcore2.AnyIOBackend()
        self._silent: BoundedDict[tuple[str, int], tuple[int, float]] = BoundedDict()

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
        self._silent.forget((host, port))
        return _Stream(stream)

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
            raise FetchError("dns_error", "the host's name cannot be resolved", again=may_pass(e)) from e
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
        failures, since = self._silent.get((host, port)) or (0, 0.0)
        if failures >= GIVE_UP_AFTER and time.monotonic() - since < LEFT_ALONE_S:
            raise FetchError(
                "connect_error", f"not tried: the last {failures} connections to this host failed as well"
            )

    def _count_failure(self, host: str, port: int) -> None:
        failures, _ = self._silent.get((host, port)) or (0, 0.0)
        self._silent.put((host, port), (failures + 1, time.monotonic()))
