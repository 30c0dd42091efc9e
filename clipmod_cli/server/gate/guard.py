"""Base of the layers that refuse requests, and the form of a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clipmod_cli.server.request_info import request_info_of


@dataclass
class Guard:
    """A layer that answers in place of the application where `refusal` returns an answer."""

    app: ASGIApp

    def refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a refused request; None to pass it on."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        refused = self.refusal(scope) if scope["type"] == "http" else None
        await (refused or self.app)(scope, receive, send)


def refuse(
    scope: Scope, reason: str, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `{"detail": ...}`, and note the reason (one of `REASONS`) for log and metrics."""
    request_info_of(scope).refused = reason
    return JSONResponse({"detail": detail}, status, headers=headers)
