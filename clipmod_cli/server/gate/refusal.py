"""The answer of a layer that turns a request away."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from clipmod_cli.server.request_info import mark_refused


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    reason: str,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer `{"detail": ...}` in place of the application; `reason` is one word for log and metrics."""
    mark_refused(scope, reason)
    await JSONResponse({"detail": detail}, status, headers=dict(headers or {}))(scope, receive, send)
