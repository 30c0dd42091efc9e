"""What nobody expected becomes an answer: 500, with the same headers and the same log line as any other."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.server.problems import BUG
from clipmod_cli.server.request_info import request_info_of

log = logging.getLogger(__name__)


@dataclass
class InternalErrorMiddleware:
    """Answers 500 where the application raised; says nothing of what."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; what was raised after the answer began goes on, and cuts the connection."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except ClientDisconnect:
            log.debug("a client left while it was sending")
        except Exception:
            if scope["type"] != "http" or begun:
                raise
            asked = request_info_of(scope)
            log.exception("request %s (%s) ended in a bug", asked.id, asked.method)
            await JSONResponse({"detail": BUG}, 500)(scope, receive, send)
