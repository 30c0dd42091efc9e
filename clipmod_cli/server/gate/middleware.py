"""Layers that refuse nothing at once: security headers, answers to exceptions, timeouts of slow bodies."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.server.gate.guards import refuse
from clipmod_cli.server.problems import BUG
from clipmod_cli.server.request_info import request_info_of

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    # not no-referrer: under that, browsers send "Origin: null" with a form's POST, ours among them
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": CSP,
    # answers describe pictures of people: not to be cached
    "Cache-Control": "no-store",
}


@dataclass
class HeadersMiddleware:
    """Adds headers that the endpoint has not set; `embeddable` lets pages of other origins show pictures."""

    app: ASGIApp
    embeddable: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add what the answer's headers lack."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._complete(MutableHeaders(scope=message))
            await send(message)

        await self.app(scope, receive, completed)

    def _complete(self, headers: MutableHeaders) -> None:
        if self.embeddable:
            headers.setdefault("Cross-Origin-Resource-Policy", "cross-origin")
        for name, value in HEADERS.items():
            headers.setdefault(name, value)


log = logging.getLogger(__name__)


@dataclass
class InternalErrorMiddleware:
    """Answers 500 where the application raised; the details go to the log only."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Exceptions after the answer began are raised, which closes the connection."""
        began = False

        async def watched(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            log.debug("client disconnected while sending")
        except Exception:
            if scope["type"] != "http" or began:
                raise
            info = request_info_of(scope)
            log.exception("request %s (%s): internal error", info.id, info.method)
            await JSONResponse({"detail": BUG}, 500)(scope, receive, send)


PATIENCE_S: Final = 30.0
"""How long a client may be silent in total while it should be sending."""

BYTES_PER_S: Final = 4096
"""Each so many bytes earn another second: slower than any real connection."""


@dataclass
class BodyPaceMiddleware:
    """Answers 408 to a body that arrives too slowly, or closes the connection if an answer has begun.

    Counts only the time spent waiting for the client: neither a large upload nor a slow model is cut off.
    """

    app: ASGIApp
    patience_s: float = PATIENCE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a body that ends in time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _TimedBody(receive, send, self.patience_s)
        try:
            await self.app(scope, body.receive, body.send)
        except Exception:
            if not body.late:
                raise
        if body.late and not body.answer_began:
            answer = refuse(scope, "slow", 408, "The request's body came too slowly", {"Connection": "close"})
            await answer(scope, receive, send)


@dataclass
class _TimedBody:
    """One request's body. To the application a late body looks as if the client had disconnected."""

    inner_receive: Receive
    inner_send: Send
    left_s: float
    late: bool = False
    answer_began: bool = False
    complete: bool = False

    async def receive(self) -> Message:
        """Return the next message, or a disconnect where the time is up."""
        if self.complete:  # only a disconnect can follow
            return await self.inner_receive()
        start = time.monotonic()
        try:
            async with asyncio.timeout(max(self.left_s, 0)):
                message = await self.inner_receive()
        except TimeoutError:
            self.late = self.complete = True
            return {"type": "http.disconnect"}
        self.left_s += len(message.get("body", b"")) / BYTES_PER_S - (time.monotonic() - start)
        self.complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send, unless it is the application's answer to a supposed disconnect."""
        if self.late and not self.answer_began:
            return
        self.answer_began = True
        await self.inner_send(message)
