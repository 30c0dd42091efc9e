"""Whose request this is, and that nobody without a key gets further.

Two layers, so that the rate limit between them knows whom it counts and also counts those who guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from clipmod_cli.server.asked import PROBES, asked_of, mark_refused
from clipmod_cli.server.gate.keys import Keys
from clipmod_cli.server.gate.login_page import COOKIE, LOGIN_PATH, STYLE_PATH, login_page
from clipmod_cli.server.gate.refusing import refuse
from clipmod_cli.server.gate.sessions import Sessions

OPEN: Final = PROBES | {LOGIN_PATH, STYLE_PATH}
PAGE: Final = frozenset({"/ui", "/ui/"})
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="clipmod"'}
DETAIL: Final = "An API key is needed: send it as X-API-Key or Authorization: Bearer"


@dataclass
class Identified:
    """Notes whose key or session a request came with."""

    app: ASGIApp
    keys: Keys
    sessions: Sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with who asks."""
        if scope["type"] == "http" and self.keys.wanted:
            asked_of(scope).who = self._who(scope)
        await self.app(scope, receive, send)

    def _who(self, scope: Scope) -> str:
        given = _key_in(scope)
        if given is not None:  # a wrong key is not made good by a cookie
            return self.keys.find(given)
        cookie = HTTPConnection(scope).cookies.get(COOKIE)
        return self.sessions.find(cookie) if cookie else ""


@dataclass
class KeyRequired:
    """Lets only those through who are known, but for the probes and the login."""

    app: ASGIApp
    keys: Keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401: with the login page where a person asked for the page."""
        free = not self.keys.wanted or scope["type"] == "lifespan"
        if free or scope["path"] in OPEN or asked_of(scope).who:
            await self.app(scope, receive, send)
        elif scope["path"] in PAGE and scope["method"] in {"GET", "HEAD"}:
            mark_refused(scope, "key")
            await login_page(401)(scope, receive, send)
        else:
            await refuse(
                scope, receive, send, reason="key", status=401, detail=DETAIL, headers=CHALLENGE
            )  # fmt: skip


def _key_in(scope: Scope) -> bytes | None:
    """Return the key in the headers, as bytes; None where there is none."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if (given := headers.get(b"x-api-key")) is not None:
        return given.strip()
    kind, _, value = headers.get(b"authorization", b"").strip().partition(b" ")
    return value.strip() if kind.lower() == b"bearer" else None
