"""`/docs`: Swagger UI over `/openapi.json`. All its files are in the package (docs_assets/README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, HTMLResponse

ASSETS: Final = Path(__file__).parent / "docs_assets"
KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".md": "text/markdown"}
FILES: Final = {path.name: path for path in ASSETS.iterdir() if path.suffix in KINDS}
"""Requested names are looked up here and never become a path."""

CACHED: Final = {"Cache-Control": "private, max-age=3600"}

CSP: Final = (
    # 'unsafe-inline': Swagger UI adds style attributes to the page
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Return Swagger UI, in which endpoints can be tried."""
    text = (ASSETS / "swagger.html").read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"Content-Security-Policy": CSP})


@router.get("/docs/{name}")
async def asset(name: str) -> FileResponse:
    """Return a script or style of the page."""
    if name not in FILES:
        raise HTTPException(404)
    return FileResponse(FILES[name], media_type=KINDS[FILES[name].suffix], headers=CACHED)
