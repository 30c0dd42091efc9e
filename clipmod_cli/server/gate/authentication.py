"""Authentication of requests: by an API key, or by a session of the page.

A session is opened with a key at `/ui/login`, kept in a cookie and closed at `/ui/logout`.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from clipmod_cli.server.gate.keys import ApiKeys
from clipmod_cli.server.gate.middleware import Guard, refuse
from clipmod_cli.server.request_info import PROBES, request_info_of

STATIC: Final = Path(__file__).parent / "static"
LOGIN_PATH: Final = "/ui/login"
LOGOUT_PATH: Final = "/ui/logout"
STYLE_PATH: Final = "/ui/login.css"
COOKIE: Final = "clipmod_session"

WRONG: Final = '<p class="fault" id="fault" role="alert">This API key is not valid.</p>'

_PAGE: Final = Template((STATIC / "login.html").read_text(encoding="utf-8"))

FORM_BYTES: Final = 4096
"""Enough for one key."""

OPEN: Final = PROBES | {LOGIN_PATH, STYLE_PATH}
PAGE: Final = frozenset({"/ui", "/ui/"})
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="clipmod"'}
DETAIL: Final = "An API key is needed: send it as X-API-Key or Authorization: Bearer"

LIFE_S: Final = 12 * 3600.0
"""Life of a session: a working day."""

MOST: Final = 1000
"""Sessions; beyond that the oldest one ends."""


@dataclass
class Sessions:
    """Sessions of logged-in users. Used in the event loop only."""

    clock: Callable[[], float] = time.monotonic
    life_s: float = LIFE_S
    most: int = MOST
    _open: dict[bytes, tuple[str, float]] = field(default_factory=dict)

    def open(self, key_id: str) -> str:
        """Return the id of a new session of this key."""
        now = self.clock()
        self._open = {key: one for key, one in self._open.items() if one[1] > now}
        while len(self._open) >= self.most:
            del self._open[next(iter(self._open))]
        made = secrets.token_urlsafe(32)
        self._open[_digest(made)] = (key_id, now + self.life_s)
        return made

    def find(self, given: str) -> str:
        """Return the key id of a session; empty if there is none or it has expired."""
        key_id, ends = self._open.get(_digest(given), ("", 0.0))
        return key_id if ends > self.clock() else ""

    def close(self, given: str) -> None:
        """End a session, if it exists."""
        self._open.pop(_digest(given), None)


def _digest(given: str) -> bytes:
    # looked up by digest, so that timing tells nothing about valid ids
    return hashlib.sha256(given.encode(errors="replace")).digest()


def login_page(status: int = 200, *, wrong: bool = False) -> HTMLResponse:
    """Return the login page; `wrong` adds that the given key is invalid."""
    headers = CHALLENGE if status == 401 else None
    return HTMLResponse(_PAGE.substitute(fault=WRONG if wrong else ""), status, headers=headers)


@dataclass
class IdentityMiddleware:
    """Notes the key or session of a request in its `RequestInfo`."""

    app: ASGIApp
    keys: ApiKeys
    sessions: Sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and self.keys.required:
            request_info_of(scope).key_id = self._key_id(scope)
        await self.app(scope, receive, send)

    def _key_id(self, scope: Scope) -> str:
        given = _key_in(scope)
        if given is not None:  # a wrong key is refused even with a valid cookie
            return self.keys.find(given)
        cookie = HTTPConnection(scope).cookies.get(COOKIE)
        key_id = self.sessions.find(cookie) if cookie else ""
        return key_id if self.keys.has(key_id) else ""  # a session ends with its key


@dataclass
class KeyMiddleware(Guard):
    """Refuses requests without a valid key or session, except to the probes and the login page."""

    keys: ApiKeys

    def refusal(self, scope: Scope) -> Response | None:
        """Return 401; for the page itself with the login form."""
        if not self.keys.required or scope["path"] in OPEN or request_info_of(scope).key_id:
            return None
        answer = refuse(scope, "key", 401, DETAIL, CHALLENGE)
        if scope["path"] in PAGE and scope["method"] in {"GET", "HEAD"}:
            return login_page(401)
        return answer


def _key_in(scope: Scope) -> bytes | None:
    """Return the key in the headers; None without one."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if (given := headers.get(b"x-api-key")) is not None:
        return given.strip()
    kind, _, value = headers.get(b"authorization", b"").strip().partition(b" ")
    return value.strip() if kind.lower() == b"bearer" else None


def login_router(keys: ApiKeys, sessions: Sessions, *, secure: bool) -> APIRouter:
    """Return the endpoints; with `secure` the cookie is sent over HTTPS only."""
    router = APIRouter(include_in_schema=False)

    @router.get(STYLE_PATH)
    async def style() -> FileResponse:
        return FileResponse(STATIC / "login.css", headers={"Cache-Control": "max-age=3600"})

    @router.get(LOGIN_PATH)
    async def form() -> Response:
        return login_page() if keys.required else _to_page()

    @router.post(LOGIN_PATH, max_body_size=FORM_BYTES)
    async def log_in(request: Request, key: Annotated[str, Form()] = "") -> Response:
        if not keys.required:
            return _to_page()
        key_id = keys.find(key.strip().encode())
        request_info_of(request.scope).key_id = key_id
        if not key_id:
            return login_page(401, wrong=True)
        answer = _to_page()
        answer.set_cookie(
            COOKIE,
            sessions.open(key_id),
            max_age=round(LIFE_S),
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return answer

    @router.post(LOGOUT_PATH)
    async def log_out(request: Request) -> Response:
        sessions.close(request.cookies.get(COOKIE, ""))
        answer = _to_page()
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=secure)
        return answer

    return router


def _to_page() -> RedirectResponse:
    return RedirectResponse("/ui", 303)
