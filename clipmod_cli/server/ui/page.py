"""`/ui` and its files, all of them in the package. Judges nothing: the scripts ask the ensemble API.

The files lie under a name made of their content, so that browsers keep them for good and yet never
mix those of two versions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from string import Template
from typing import Final

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse

from clipmod_cli import __version__
from clipmod_cli.server.request_info import request_info_of

STATIC: Final = Path(__file__).parent / "static"
KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FILES: Final = {path.name: path for path in sorted(STATIC.iterdir()) if path.suffix in KINDS}
"""Requested names are looked up here and never become a path."""

CACHED: Final = {"Cache-Control": "private, max-age=31536000, immutable"}


def _digest() -> str:
    """Return a short name of what is in the files."""
    digest = hashlib.sha256()
    for name, path in FILES.items():
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


EDITION: Final = _digest()

_PAGE: Final = Template((STATIC / "page.html").read_text(encoding="utf-8"))

router = APIRouter(include_in_schema=False)


@router.get("/ui")
async def page(request: Request) -> HTMLResponse:
    """Return the page, with a way to log out if a key was given."""
    key_id = request_info_of(request.scope).key_id
    files = f"/ui/static/{EDITION}"
    return HTMLResponse(_PAGE.substitute(files=files, version=__version__, hidden="" if key_id else "hidden"))


@router.get("/ui/static/{edition}/{name}")
async def file(edition: str, name: str) -> FileResponse:
    """Return a file of the page."""
    if edition != EDITION or name not in FILES:
        raise HTTPException(404)
    return FileResponse(FILES[name], media_type=KINDS[FILES[name].suffix], headers=CACHED)
