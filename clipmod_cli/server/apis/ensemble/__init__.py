"""The ensemble API: the interface of a documented moderation service, over the one pipeline."""

from __future__ import annotations

from fastapi import APIRouter

from clipmod_cli.server.apis.ensemble import about, forms, image, streaming, urls

router = APIRouter()
for part in (about, forms, urls, streaming, image):
    router.include_router(part.router)
