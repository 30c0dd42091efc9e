"""Methods that every resource has: HEAD wherever GET is, OPTIONS, and `Allow` with each 405."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROUTED: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
EVERYTHING: Final = "*"
"""The target of `OPTIONS *`: the service as a whole."""


@dataclass
class MethodsMiddleware:
    """Answers HEAD as GET without its body, and OPTIONS with `Allow`; takes a path with a slash too many.

    A redirect to the path without the slash would cost an upload twice, and lead to the host that the request
    names. Innermost: it asks the routes.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, as GET where it is a HEAD, or answer an OPTIONS."""
        if scope["type"] == "http":
            _cut_slash(scope)
            if scope["method"] == "OPTIONS" and (allowed := allowed_methods(scope)):
                await Response(status_code=204, headers={"Allow": ", ".join(allowed)})(scope, receive, send)
                return
            if scope["method"] == "HEAD" and not _has(scope, scope["path"], "HEAD"):
                await self._head(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        ended = False

        async def without_body(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                await send(message)
            elif not ended:  # at once, so that a stream is not read to its end
                ended = True
                await send({"type": "http.response.body", "body": b""})

        scope["method"] = "GET" if _has(scope, scope["path"], "GET") else "HEAD"
        try:
            await self.app(scope, receive, without_body)
        finally:
            scope["method"] = "HEAD"


def allowed_methods(scope: Scope) -> list[str]:
    """Return the methods of the resource at the request's path; none where there is no such resource."""
    if scope["path"] == EVERYTHING:
        return [*ROUTED, "OPTIONS"]
    found = [method for method in ROUTED if _has(scope, scope["path"], method)]
    if "GET" in found and "HEAD" not in found:
        found.insert(1, "HEAD")
    return [*found, "OPTIONS"] if found else []


def _cut_slash(scope: Scope) -> None:
    path: str = scope["path"]
    shorter = path[:-1]
    if not path.endswith("/") or not shorter or _exists(scope, path):
        return
    if _exists(scope, shorter):
        scope["path"] = shorter
        scope["raw_path"] = scope.get("raw_path", b"").removesuffix(b"/")


def _exists(scope: Scope, path: str) -> bool:
    return any(_match(route, scope, path, scope["method"]) is not Match.NONE for route in _routes(scope))


def _has(scope: Scope, path: str, method: str) -> bool:
    return any(_match(route, scope, path, method) is Match.FULL for route in _routes(scope))


def _match(route: BaseRoute, scope: Scope, path: str, method: str) -> Match:
    return route.matches({**scope, "path": path, "method": method})[0]


def _routes(scope: Scope) -> list[BaseRoute]:
    routes: list[BaseRoute] = scope["app"].routes
    return routes
