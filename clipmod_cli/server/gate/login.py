"""`/ui/login` and `/ui/logout`: a key for a cookie, and the cookie's end."""

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
from starlette.responses import HTMLResponse

from clipmod_cli.server.gate.keys import ApiKeys
from clipmod_cli.server.request_info import request_info_of

FORM_BYTES: Final = 4096
"""A key and its name; nothing else is ever sent here."""


def login_router(keys: ApiKeys, sessions: Sessions, *, secure: bool) -> APIRouter:
    """Return the endpoints; `secure` keeps the cookie from ever going over plain HTTP."""
    router = APIRouter(include_in_schema=False)

    @router.get(STYLE_PATH)
    async def style() -> FileResponse:
        return FileResponse(STATIC / "login.css", headers={"Cache-Control": "max-age=3600"})

    @router.get(LOGIN_PATH)
    async def form() -> Response:
        return login_page() if keys.wanted else _to_the_page()

    @router.post(LOGIN_PATH, max_body_size=FORM_BYTES)
    async def log_in(request: Request, key: Annotated[str, Form()] = "") -> Response:
        if not keys.wanted:
            return _to_the_page()
        who = keys.find(key.strip().encode())
        request_info_of(request.scope).who = who
        if not who:
            return login_page(401, wrong=True)
        answer = _to_the_page()
        answer.set_cookie(
            COOKIE, sessions.open(who), max_age=round(LIFE_S), httponly=True, samesite="strict", secure=secure
        )
        return answer

    @router.post(LOGOUT_PATH)
    async def log_out(request: Request) -> Response:
        sessions.close(request.cookies.get(COOKIE, ""))
        answer = _to_the_page()
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=secure)
        return answer

    return router


def _to_the_page() -> RedirectResponse:
    return RedirectResponse("/ui", 303)


STATIC: Final = Path(__file__).parent / "static"
LOGIN_PATH: Final = "/ui/login"
LOGOUT_PATH: Final = "/ui/logout"
STYLE_PATH: Final = "/ui/login.css"
COOKIE: Final = "clipmod_session"

WRONG: Final = '<p class="fault" id="fault" role="alert">That is not a key of this service.</p>'

_PAGE: Final = Template((STATIC / "login.html").read_text(encoding="utf-8"))


def login_page(status: int = 200, *, wrong: bool = False) -> HTMLResponse:
    """Return the page; `wrong` says that a key was given and was none."""
    headers = {"WWW-Authenticate": 'Bearer realm="clipmod"'} if status == 401 else None
    return HTMLResponse(_PAGE.substitute(fault=WRONG if wrong else ""), status, headers=headers)


LIFE_S: Final = 12 * 3600.0
"""A working day; then the key is asked for again."""

MOST: Final = 1000
"""More than people work with one service; beyond that the oldest session ends."""


@dataclass
class Sessions:
    """Who is logged in. Used in the event loop alone."""

    clock: Callable[[], float] = time.monotonic
    life_s: float = LIFE_S
    most: int = MOST
    _open: dict[bytes, tuple[str, float]] = field(default_factory=dict)

    def open(self, who: str) -> str:
        """Return the id of a new session of the key `who`."""
        now = self.clock()
        self._open = {key: one for key, one in self._open.items() if one[1] > now}
        while len(self._open) >= self.most:
            del self._open[next(iter(self._open))]
        made = secrets.token_urlsafe(32)
        self._open[_hidden(made)] = (who, now + self.life_s)
        return made

    def find(self, given: str) -> str:
        """Return whose session this is, or nothing if there is none or it has ended."""
        who, ends = self._open.get(_hidden(given), ("", 0.0))
        return who if ends > self.clock() else ""

    def close(self, given: str) -> None:
        """End a session, if it is there."""
        self._open.pop(_hidden(given), None)


def _hidden(given: str) -> bytes:
    # looked up by digest: how long that takes says nothing of the ids that are there
    return hashlib.sha256(given.encode(errors="replace")).digest()
