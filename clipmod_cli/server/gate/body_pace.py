"""That a body comes at a bearable pace: who sends drop by drop holds nothing for long.

Counts only the time that is spent waiting for the client, so neither a large upload nor a slow
model is cut off. How large a body may be is said at each endpoint.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.server.gate.refusal import refuse

PATIENCE_S: Final = 30.0
"""How long a client may be silent, all in all, while it should be sending."""

BYTES_PER_S: Final = 4096
"""Each so many bytes earn another second: a bad telephone line is faster."""


@dataclass
class BodyPaceMiddleware:
    """Ends requests whose bodies come too slowly: 408, or the end of the connection."""

    app: ASGIApp
    patience_s: float = PATIENCE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a body that ends in time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive, send, self.patience_s)
        try:
            await self.app(scope, body.receive, body.send)
        except Exception:
            if not body.late:
                raise
        if body.late and not body.begun:
            await refuse(
                scope, receive, send,
                reason="slow",
                status=408,
                detail="The request's body came too slowly",
                headers={"Connection": "close"},
            )  # fmt: skip


@dataclass
class _Body:
    """One request's body. A late one looks to the application as if the client had left."""

    inner_receive: Receive
    inner_send: Send
    left_s: float
    late: bool = False
    begun: bool = False
    done: bool = False

    async def receive(self) -> Message:
        """Return the next message, or a disconnect where the time is up."""
        if self.done:  # what comes now is only ever the client's leaving
            return await self.inner_receive()
        waiting = time.monotonic()
        try:
            async with asyncio.timeout(max(self.left_s, 0)):
                message = await self.inner_receive()
        except TimeoutError:
            self.late = self.done = True
            return {"type": "http.disconnect"}
        self.left_s += len(message.get("body", b"")) / BYTES_PER_S - (time.monotonic() - waiting)
        self.done = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send, unless it is the application's answer to a client that it believes gone."""
        if self.late and not self.begun:
            return
        self.begun = True
        await self.inner_send(message)
