"""Rate limit: requests a minute for each key, or for each address without one.

The generic cell rate algorithm keeps one number a caller: the time at which all its requests would be due
had they come evenly. A caller may use its whole minute at once, then its quota refills evenly. Used in the
event loop only, so there are no locks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.server.gate.middleware import refuse
from clipmod_cli.server.request_info import RequestInfo, request_info_of

MINUTE_S: Final = 60.0
POLICY: Final = "minute"
"""The name of the limit in the structured headers."""

ROUNDING_S: Final = 1e-6
"""Sums of fractions are not exact."""

MOST_CALLERS: Final = 10_000
"""Callers kept in memory (1 MB); beyond that the oldest are dropped."""

FILES: Final = ("/ui/", "/docs/")
"""Scripts and styles of the pages are not counted."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left to a caller after a request was counted.

    Attributes:
        limit: requests a minute.
        remaining: requests that it may send now.
        reset_s: seconds until it may send one more than that.
        refused: the request was not allowed.
    """

    limit: int
    remaining: int
    reset_s: float
    refused: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers for clients: three that are widely read, and the two of the IETF's current draft."""
        reset = max(1, math.ceil(self.reset_s - ROUNDING_S))
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(reset),
            "RateLimit-Policy": f'"{POLICY}";q={self.limit};w={MINUTE_S:.0f}',
            "RateLimit": f'"{POLICY}";r={self.remaining};t={reset}',
            **({"Retry-After": str(reset)} if self.refused else {}),
        }


@dataclass
class RateLimitMiddleware:
    """Allows each caller `a_minute` requests a minute, and tells it in headers what is left."""

    app: ASGIApp
    a_minute: int
    clock: Callable[[], float] = time.monotonic
    _due: dict[str, float] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 429 where its caller's quota is used up."""
        if scope["type"] != "http" or _is_free(scope):
            await self.app(scope, receive, send)
            return
        quota = self.count(request_info_of(scope))

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in quota.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self.app
        if quota.refused:
            app = refuse(scope, "rate", 429, f"Too many requests: {self.a_minute} a minute are allowed")
        await app(scope, receive, told)

    def count(self, info: RequestInfo) -> Quota:
        """Count a request, and return what is left to its caller."""
        now, each_s = self.clock(), MINUTE_S / self.a_minute
        due = max(self._due.get(info.caller, now), now)
        if (early_s := due + each_s - now - MINUTE_S) > ROUNDING_S:
            return Quota(self.a_minute, 0, early_s, refused=True)
        self._due[info.caller] = due = due + each_s
        self._evict(now)
        remaining = math.floor((MINUTE_S - (due - now) + ROUNDING_S) / each_s)
        return Quota(self.a_minute, remaining, (remaining + 1) * each_s - (MINUTE_S - (due - now)))

    def _evict(self, now: float) -> None:
        if len(self._due) > MOST_CALLERS:
            self._due = {caller: due for caller, due in self._due.items() if due > now}
        while len(self._due) > MOST_CALLERS:
            del self._due[next(iter(self._due))]


def _is_free(scope: Scope) -> bool:
    return request_info_of(scope).is_probe or (scope["method"] == "GET" and scope["path"].startswith(FILES))
