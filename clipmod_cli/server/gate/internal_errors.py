"""Turns unexpected exceptions into 500 answers, with the usual headers and log line."""

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
    """Answers 500 where the application raised, without details; these go to the log."""

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
