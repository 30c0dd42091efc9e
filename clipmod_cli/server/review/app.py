"""The application of `clipmod review`: the page, and what it asks for. One person, one browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from starlette.middleware import Middleware

from clipmod_cli.server.gate.middleware import (
    BodyPaceMiddleware,
    HeadersMiddleware,
    InternalErrorMiddleware,
    ProtocolFaultMiddleware,
)
from clipmod_cli.server.problems import handle_problems
from clipmod_cli.server.protocol.methods import MethodsMiddleware
from clipmod_cli.server.request_info import ObserverMiddleware
from clipmod_cli.server.review.access import ReviewAccess
from clipmod_cli.server.review.context import ReviewContext
from clipmod_cli.server.review.endpoints import router
from clipmod_cli.server.review.page import router as page

THREADS = 8
"""Requests that wait for a picture or the disk at once."""


def create_review_app(review: ReviewContext, access: ReviewAccess) -> FastAPI:
    """Return the application; it closes nothing of what it is given."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"review": review, "threads": CapacityLimiter(THREADS)}

    app = FastAPI(
        title="clipmod review",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(ObserverMiddleware),
            Middleware(HeadersMiddleware),
            Middleware(InternalErrorMiddleware),
            Middleware(ProtocolFaultMiddleware),
            *access.layers,
            Middleware(BodyPaceMiddleware),
            Middleware(MethodsMiddleware),
        ],
    )
    handle_problems(app)
    for one in access.routers:
        app.include_router(one)
    app.include_router(page)
    app.include_router(router)
    return app
