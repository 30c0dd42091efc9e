"""`/docs` and `/redoc`: pages that show `/openapi.json`, with all they need in the package.

What the pages' libraries are, and whose, is in docs_assets/README.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, HTMLResponse

ASSETS: Final = Path(__file__).parent / "docs_assets"
KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".md": "text/markdown"}
FILES: Final = {path.name: path for path in ASSETS.iterdir() if path.suffix in KINDS}
"""A name that is asked for is looked up here, and never becomes a path."""

CACHED: Final = {"Cache-Control": "private, max-age=3600"}

CSP: Final = (
    # both libraries put styles into the page by themselves, and Redoc searches in a worker
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; worker-src blob:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Answer with Swagger UI, in which endpoints can be tried."""
    return _page("swagger.html")


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    """Answer with Redoc, which is for reading."""
    return _page("redoc.html")


@router.get("/docs/{name}")
async def asset(name: str) -> FileResponse:
    """Answer with a file of the pages."""
    if name not in FILES:
        raise HTTPException(404)
    return FileResponse(FILES[name], media_type=KINDS[FILES[name].suffix], headers=CACHED)


def _page(name: str) -> HTMLResponse:
    text = (ASSETS / name).read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"Content-Security-Policy": CSP})
