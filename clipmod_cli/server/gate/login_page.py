"""The page that asks for the key, and its files. One form, no script."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Final

from starlette.responses import HTMLResponse

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
