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

from starlette.responses import Response
from starlette.types import Scope

from clipmod_cli.server.gate.middleware import Guard, refuse
from clipmod_cli.server.request_info import RequestInfo, request_info_of

MINUTE_S: Final = 60.0
ROUNDING_S: Final = 1e-6
"""Sums of fractions are not exact."""

MOST_CALLERS: Final = 10_000
"""Callers kept in memory (1 MB); beyond that the oldest are dropped."""

FILES: Final = ("/ui/", "/docs/")
"""Scripts and styles of the pages are not counted."""


@dataclass
class RateLimitMiddleware(Guard):
    """Allows each caller `a_minute` requests a minute."""

    a_minute: int
    clock: Callable[[], float] = time.monotonic
    _due: dict[str, float] = field(default_factory=dict)

    def refusal(self, scope: Scope) -> Response | None:
        """Return 429 with `Retry-After` where the caller's quota is used up."""
        if _is_free(scope) or not (wait_s := self.wait_s(request_info_of(scope))):
            return None
        detail = f"Too many requests: {self.a_minute} a minute are allowed"
        return refuse(scope, "rate", 429, detail, {"Retry-After": str(math.ceil(wait_s))})

    def wait_s(self, info: RequestInfo) -> float:
        """Count a request; return 0 if it is allowed, else the seconds until it would be."""
        now, each_s = self.clock(), MINUTE_S / self.a_minute
        caller = info.caller
        due = max(self._due.get(caller, now), now)
        if (early_s := due + each_s - now - MINUTE_S) > ROUNDING_S:
            return early_s
        self._due[caller] = due + each_s
        self._evict(now)
        return 0.0

    def _evict(self, now: float) -> None:
        if len(self._due) > MOST_CALLERS:
            self._due = {caller: due for caller, due in self._due.items() if due > now}
        while len(self._due) > MOST_CALLERS:
            del self._due[next(iter(self._due))]


def _is_free(scope: Scope) -> bool:
    return request_info_of(scope).is_probe or (scope["method"] == "GET" and scope["path"].startswith(FILES))
