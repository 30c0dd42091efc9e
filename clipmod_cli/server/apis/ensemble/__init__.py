"""The ensemble API: the interface of a documented moderation service, over the one pipeline."""

from __future__ import annotations

from fastapi import APIRouter

from clipmod_cli.server.apis.ensemble import forms, image, streaming, urls
from clipmod_cli.server.apis.ensemble.about import endpoints

router = APIRouter()
for part in (endpoints, forms, urls, streaming, image):
    router.include_router(part.router)
