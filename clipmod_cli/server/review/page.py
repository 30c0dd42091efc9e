"""The page and its files, all of them in the package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

STATIC: Final = Path(__file__).parent / "static"
KINDS: Final = {".js": "text/javascript", ".css": "text/css"}
FILES: Final = {path.name: path for path in sorted(STATIC.iterdir()) if path.suffix in KINDS}
"""Requested names are looked up here and never become a path."""

router = APIRouter()


@router.get("/")
@router.get("/ui")  # where the login leads to
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(STATIC / "review.html", media_type="text/html", headers={"Cache-Control": "no-store"})


@router.get("/static/{name}")
async def file(name: str) -> FileResponse:
    """Return a file of the page."""
    if name not in FILES:
        raise HTTPException(404)
    return FileResponse(
        FILES[name], media_type=KINDS[FILES[name].suffix], headers={"Cache-Control": "no-store"}
    )
