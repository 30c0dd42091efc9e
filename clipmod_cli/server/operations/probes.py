"""`/healthz` and `/readyz`: liveness and readiness."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from clipmod_cli.server.state import Served

router = APIRouter(tags=["probes"])


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> dict[str, str]:
    """Answer while the process can."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Whether a request that came now would be served",
    responses={503: {"description": "A model is missing, the queue is full, or the service is ending"}},
)
async def readyz(service: Served) -> JSONResponse:
    """Report models, queue and shutdown."""
    facts = {
        "models_loaded": service.device.alive,
        "queue_full": service.load.full,
        "draining": service.draining,
    }
    status = "ready" if service.ready else "not ready"
    return JSONResponse({"status": status, **facts}, 200 if service.ready else 503)
