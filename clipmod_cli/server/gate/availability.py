"""Layers: 503 to judging requests while the service is not ready or is ending, and closed connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.server.readiness.follow import CHECK_EVERY_S
from clipmod_cli.server.request_info import request_info_of
from clipmod_cli.server.service import Service

RETRY_S: Final = round(CHECK_EVERY_S)
"""Seconds in `Retry-After`: the next look at the reference picture is over, or another process listens."""

ENDING: Final = "The service is ending. Try again soon"
UNREADY: Final = "The service cannot judge at the moment. Try again soon"

READ_BYTES: Final = 64_000_000
"""Of a body that is read before its request is refused and the connection closed: a client that sends all
before it reads would otherwise see a broken connection instead of the answer."""


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
        judging = (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].startswith(self.judging_paths)
        )
        if judging and self.service.draining:
            await _read_rest(scope, receive)
            await _refuse(scope, receive, send, "draining", ENDING)
        elif judging and self.service.readiness.fault is not None:
            await _refuse(scope, receive, send, "unready", UNREADY)
        else:
            await self.app(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str, detail: str) -> None:
    request_info_of(scope).refused = reason
    answer = JSONResponse({"detail": detail}, 503, headers={"Retry-After": str(RETRY_S)})
    await answer(scope, receive, send)


async def _read_rest(scope: Scope, receive: Receive) -> None:
    """Read and drop a body, unless its client waits to be told to send it."""
    if any(name == b"expect" for name, _ in scope["headers"]):
        return
    size = 0
    while size < READ_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


@dataclass
class ConnectionCloseMiddleware:
    """Adds `Connection: close` while the service is ending, so that clients connect elsewhere. Outermost.

    Not to an answer that comes before the end of its request's body: it could be lost.
    """

    app: ASGIApp
    service: Service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        names = {name for name, _ in scope["headers"]}
        is_complete = names.isdisjoint({b"content-length", b"transfer-encoding"}) or b"expect" in names

        async def watched() -> Message:
            nonlocal is_complete
            message = await receive()
            is_complete = is_complete or not message.get("more_body", False)
            return message

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and is_complete and self.service.draining:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self.app(scope, watched, closing)
