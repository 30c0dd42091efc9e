"""Ends requests whose bodies arrive too slowly, so that slow senders hold no resources for long.

Counts only the time spent waiting for the client: neither a large upload nor a slow model is cut off. The
size of a body is limited at each endpoint.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.server.gate.guard import refuse

PATIENCE_S: Final = 30.0
"""How long a client may be silent in total while it should be sending."""

BYTES_PER_S: Final = 4096
"""Each so many bytes earn another second: slower than any real connection."""


@dataclass
class BodyPaceMiddleware:
    """Answers 408 to a slow body, or closes the connection if an answer has begun."""

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
