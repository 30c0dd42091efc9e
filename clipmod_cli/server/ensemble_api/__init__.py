"""The ensemble API: the interface of a documented moderation service, over the one pipeline."""

from __future__ import annotations

from fastapi import APIRouter

from clipmod_cli.server.ensemble_api import image, info, multi, single, stats, streaming, urls

__all__ = ["router"]

router = APIRouter(tags=["ensemble"])
for part in (info, single, multi, urls, streaming, stats, image):
    router.include_router(part.router)
