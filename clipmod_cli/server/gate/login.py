"""`/ui/login` and `/ui/logout`: a key for a cookie, and the cookie's end."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from clipmod_cli.server.asked import asked_of
from clipmod_cli.server.gate.keys import Keys
from clipmod_cli.server.gate.login_page import (
    COOKIE,
    LOGIN_PATH,
    LOGOUT_PATH,
    STATIC,
    STYLE_PATH,
    login_page,
)
from clipmod_cli.server.gate.sessions import LIFE_S, Sessions

FORM_BYTES: Final = 4096
"""A key and its name; nothing else is ever sent here."""


def login_router(keys: Keys, sessions: Sessions, *, secure: bool) -> APIRouter:
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
        asked_of(request.scope).who = who
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
