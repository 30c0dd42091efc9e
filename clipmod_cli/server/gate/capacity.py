"""Turns requests for a judgement away while the service is full: before their bodies, and at little cost.

Under ten times the load that can be served, nine of ten requests end here; what one of them costs is
taken from those that are served. The places themselves are given at the endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from clipmod_cli.server.gate.refusal import refuse
from clipmod_cli.server.kept.request_rows import JUDGING
from clipmod_cli.server.problems import BUSY, retry_headers
from clipmod_cli.server.service import ServiceLoad

STATUS: Final = 503


@dataclass
class CapacityMiddleware:
    """Lets requests for a judgement through only while there is a place for one more."""

    app: ASGIApp
    load: ServiceLoad

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 503 with when to come again."""
        if not (self.load.full and _is_for_judging(scope)):
            await self.app(scope, receive, send)
            return
        await refuse(
            scope, receive, send, reason="busy", status=STATUS, detail=BUSY, headers=retry_headers(STATUS)
        )


def _is_for_judging(scope: Scope) -> bool:
    if scope["type"] != "http":  # others have no method
        return False
    path: str = scope["path"]
    return scope["method"] == "POST" and path.startswith(JUDGING)
