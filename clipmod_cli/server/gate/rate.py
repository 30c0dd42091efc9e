"""How often one caller may ask: so many requests a minute for each key, or each address without one.

The generic cell rate algorithm: one number for each caller, the time at which all that it asked would be
due if it had come evenly. A caller may spend its minute at once, and then asks as fast as it is refilled.
Used in the event loop alone, so nothing is locked.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from clipmod_cli.server.gate.refusal import refuse
from clipmod_cli.server.request_info import RequestInfo, request_info_of

MINUTE_S: Final = 60.0
ROUNDING_S: Final = 1e-6
"""Sums of fractions are not exact."""

MOST_CALLERS: Final = 10_000
"""Callers remembered at once: 1 MB. Beyond that those who asked first are forgotten."""

NETWORK_BITS: Final = 64
"""Of an IPv6 address: what one customer gets, who could otherwise be a new caller each time."""

FILES: Final = ("/ui/", "/docs/")
"""Scripts and styles of the pages: cheap, and many at once."""


@dataclass
class RateLimitMiddleware:
    """Lets each caller ask `a_minute` times a minute."""

    app: ASGIApp
    a_minute: int
    clock: Callable[[], float] = time.monotonic
    _due: dict[str, float] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 429 with how long to wait."""
        if (
            scope["type"] == "lifespan"
            or _is_free(scope)
            or not (wait_s := self.wait_s(request_info_of(scope)))
        ):
            await self.app(scope, receive, send)
            return
        await refuse(
            scope, receive, send,
            reason="rate",
            status=429,
            detail=f"Too many requests: {self.a_minute} a minute are allowed",
            headers={"Retry-After": str(math.ceil(wait_s))},
        )  # fmt: skip

    def wait_s(self, asked: RequestInfo) -> float:
        """Count a request; return 0, or after how many seconds it would be let through."""
        now, each_s = self.clock(), MINUTE_S / self.a_minute
        caller = asked.who or network_of(asked.client)
        due = max(self._due.get(caller, now), now)
        if (early_s := due + each_s - now - MINUTE_S) > ROUNDING_S:
            return early_s
        self._due[caller] = due + each_s
        self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        if len(self._due) > MOST_CALLERS:
            self._due = {caller: due for caller, due in self._due.items() if due > now}
        while len(self._due) > MOST_CALLERS:
            del self._due[next(iter(self._due))]


def network_of(address: str) -> str:
    """Return the address as a caller: itself, and of an IPv6 one the network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((int(found), NETWORK_BITS), strict=False))


def _is_free(scope: Scope) -> bool:
    return request_info_of(scope).is_probe or (scope["method"] == "GET" and scope["path"].startswith(FILES))
