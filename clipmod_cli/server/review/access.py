"""Who may see the page: the browser that opened the link in the terminal, or a client with a key.

The link is for this machine, and works once. Other devices log in with an API key, as at `clipmod serve`.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from clipmod_cli.server.gate.authentication import IdentityMiddleware, KeyMiddleware, Sessions
from clipmod_cli.server.gate.middleware import Guard, HostMiddleware, OriginMiddleware, refuse
from clipmod_cli.server.gate.stack import Gate

COOKIE = "clipmod_review"
LIFE_S = 7 * 24 * 3600.0

PAGES = frozenset({"/", "/ui"})

USED = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>clipmod review</title>"
    "<p>This link was used already, or belongs to another run. Each link works once, in one browser. "
    "End <code>clipmod review</code> with Ctrl-C and start it again for a new one.</p></html>"
)


@dataclass(frozen=True)
class ReviewAccess:
    """The layers of one way in, the outermost first, and the endpoints that they need."""

    layers: tuple[Middleware, ...]
    routers: tuple[APIRouter, ...] = ()


def access_by_link(link: OneTimeLink) -> ReviewAccess:
    """Return the way in for a browser on this machine."""
    return ReviewAccess(
        (
            # of other names none is this machine's: against DNS rebinding
            Middleware(HostMiddleware, names=frozenset({"localhost"})),
            Middleware(OriginMiddleware, origins=frozenset()),
            Middleware(ReviewGate, link=link),
        )
    )


def access_by_key(gate: Gate) -> ReviewAccess:
    """Return the way in for other devices; all of them need a key."""
    if not gate.keys.required:
        raise AssertionError("no key is required")
    return ReviewAccess(
        (
            Middleware(HostMiddleware, names=None),
            Middleware(OriginMiddleware, origins=gate.own_origins),
            Middleware(IdentityMiddleware, keys=gate.keys, sessions=gate.sessions),
            Middleware(KeyMiddleware, keys=gate.keys),
        ),
        (gate.login,),
    )


@dataclass
class OneTimeLink:
    """A secret that opens one session."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    sessions: Sessions = field(default_factory=lambda: Sessions(life_s=LIFE_S))

    def exchange(self, given: str) -> str | None:
        """Return the id of a new session for the secret, which is void then; None for any other."""
        if not self.token or not hmac.compare_digest(given.encode(), self.token.encode()):
            return None
        self.token = ""
        return self.sessions.open("review")


@dataclass
class ReviewGate(Guard):
    """Passes on requests of the session; opens it for the link; refuses all others."""

    link: OneTimeLink

    def refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request without a session."""
        cookie = HTTPConnection(scope).cookies.get(_name_of(scope))
        known = bool(cookie and self.link.sessions.find(cookie))
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if scope["path"] in PAGES and asked and scope["method"] == "GET":
            opened = self.link.exchange(asked[0])
            if opened is not None:
                answer = RedirectResponse("/", 303)
                answer.set_cookie(_name_of(scope), opened, httponly=True, samesite="strict", path="/")
                return answer
            return RedirectResponse("/", 303) if known else HTMLResponse(USED, 403)
        if known:
            return None
        if scope["path"] in PAGES:
            return HTMLResponse(USED, 403)
        return refuse(scope, "key", 401, "Open the link that the terminal shows")


def _name_of(scope: Scope) -> str:
    """Return the name of the cookie: browsers do not tell apart the ports of one machine."""
    server = scope.get("server") or ("", 0)
    return f"{COOKIE}_{server[1]}"
