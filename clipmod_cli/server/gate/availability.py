"""Layers: 503 to judging requests while the service is not ready or is ending, and closed connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.server.readiness.follow import CHECK_EVERY_S
from clipmod_cli.server.request_info import is_judging, request_info_of
from clipmod_cli.server.service import Service

RETRY_S: Final = round(CHECK_EVERY_S)
"""Seconds in `Retry-After`: the next look at the reference picture is over, or another process listens."""

ENDING: Final = "The service is ending. Try again soon"
UNREADY: Final = "The service cannot judge at the moment. Try again soon"


@dataclass
class ReadinessMiddleware:
    """Answers 503 with `Retry-After` to judging requests that would wait in vain. The innermost layer.

    Attributes:
        judging_paths: prefixes of the paths of judging endpoints.
    """

    app: ASGIApp
    service: Service
    judging_paths: tuple[str, ...]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        judging = is_judging(scope, self.judging_paths)
        if judging and self.service.draining:
            await _refuse(scope, receive, send, "draining", ENDING)
        elif judging and self.service.readiness.fault is not None:
            await _refuse(scope, receive, send, "unready", UNREADY)
        else:
            await self.app(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str, detail: str) -> None:
    request_info_of(scope).refused = reason
    answer = JSONResponse({"detail": detail}, 503, headers={"Retry-After": str(RETRY_S)})
    await answer(scope, receive, send)


@dataclass
class ConnectionCloseMiddleware:
    """Adds `Connection: close` while the service is ending, so that clients connect elsewhere. Outermost."""

    app: ASGIApp
    service: Service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self.service.draining:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self.app(scope, receive, closing)
