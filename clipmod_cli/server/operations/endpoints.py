"""`/healthz` and `/readyz`, and `/docs`: Swagger UI over `/openapi.json`.

All files of `/docs` are in the package (docs_assets/README.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from clipmod_cli.server.state import Served

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

router = APIRouter()


@router.get(
    "/healthz",
    summary="Whether the process lives",
    responses={503: {"description": "It can judge nothing more until it is restarted"}},
    tags=["probes"],
)
async def healthz(service: Served) -> JSONResponse:
    """Answer 200 unless only a restart helps: a probe that restarts must not ask for more than that."""
    alive = service.device.alive or service.draining
    return JSONResponse({"status": "alive" if alive else "dead"}, 200 if alive else 503)


@router.get(
    "/readyz",
    summary="Whether a request that came now would be served",
    responses={
        503: {"description": "The line does not work (`reason`), the queue is full, or the service is ending"}
    },
    tags=["probes"],
)
async def readyz(service: Served) -> JSONResponse:
    """Report the line as the reference picture found it, queue and shutdown."""
    facts = {
        "models_loaded": service.device.alive,
        "reason": service.unready_reason,
        "queue_full": service.load.full,
        "draining": service.draining,
    }
    status = "ready" if service.ready else "not ready"
    return JSONResponse({"status": status, **facts}, 200 if service.ready else 503)


@router.get("/docs", include_in_schema=False)
async def docs() -> HTMLResponse:
    """Return Swagger UI, in which endpoints can be tried."""
    text = (ASSETS / "swagger.html").read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"Content-Security-Policy": CSP})


@router.get("/docs/{name}", include_in_schema=False)
async def asset(name: str) -> FileResponse:
    """Return a script or style of the page."""
    if name not in FILES:
        raise HTTPException(404)
    return FileResponse(FILES[name], media_type=KINDS[FILES[name].suffix], headers=CACHED)
