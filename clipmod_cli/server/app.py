"""The application: all interfaces over one service. It starts nothing by itself.

`clipmod serve` opens the service (`clipmod_cli.server.service`) and passes it in; tests do the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from starlette.middleware import Middleware

from clipmod_cli import __version__
from clipmod_cli.server.apis.dialects import DIALECTS
from clipmod_cli.server.gate.availability import ConnectionCloseMiddleware, ReadinessMiddleware
from clipmod_cli.server.gate.stack import gate_of
from clipmod_cli.server.operations import endpoints, openapi
from clipmod_cli.server.operations.metrics import Metrics, metrics_router
from clipmod_cli.server.operations.request_log import RequestRows, access_log_of, noting_requests
from clipmod_cli.server.problems import handle_problems
from clipmod_cli.server.request_info import RequestObserver
from clipmod_cli.server.service import Service
from clipmod_cli.server.storage import open_storage
from clipmod_cli.server.ui.page import router as ui
from clipmod_cli.settings.definition import Settings

DESCRIPTION = """
Judges pictures and videos with an ensemble of OpenCLIP models, a detector, or any Hugging Face image
classifier. Three known interfaces and OpenAI's moderation call share one pipeline, one policy and one queue.
"""


def create_app(service: Service, settings: Settings) -> FastAPI:
    """Return the application over an open service. The application closes the service when it ends.

    Raises:
        SettingsError: if the list of classifiers or a documented environment variable is invalid.
        UsageError: if keys are required (another address than loopback) and there are none.
    """
    dialects_state = {name: value for one in DIALECTS for name, value in one.make_state(settings).items()}
    judging_paths = tuple(path for one in DIALECTS for path in one.judging_paths)
    shaping = [one.layer for one in DIALECTS if one.layer is not None]
    gate, metrics = gate_of(settings), Metrics(service)
    observers: list[RequestObserver] = [
        metrics,
        RequestRows(service, judging_paths),
        *access_log_of(settings),
    ]

    app = FastAPI(
        title="clipmod",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan_of(service, settings, metrics, dialects_state),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_tags=[{"name": d.name, "description": d.description} for d in DIALECTS] + openapi.TAGS,
        middleware=[
            Middleware(ConnectionCloseMiddleware, service=service),
            *gate.layers(observers, service.load, judging_paths, shaping),
            Middleware(ReadinessMiddleware, service=service, judging_paths=judging_paths),
        ],
    )
    handle_problems(app)
    openapi.describe(app, keys=gate.keys.required)
    app.include_router(endpoints.router)
    for dialect in DIALECTS:
        app.include_router(dialect.router, tags=[dialect.name])
    app.include_router(metrics_router(metrics))
    app.include_router(gate.login)
    app.include_router(ui)
    return app


def _lifespan_of(
    service: Service, settings: Settings, metrics: Metrics, dialects_state: Mapping[str, Any]
) -> Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]:
    """Return a lifespan that opens the storage, yields the state of requests and closes the service."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        try:
            with noting_requests():
                async with open_storage(settings) as storage:
                    metrics.watch_files("hosted", storage.hosting)
                    metrics.watch_files("predictions", storage.predictions)
                    yield {
                        "service": service,
                        "settings": settings,
                        "threads": CapacityLimiter(settings.max_requests),
                        "download_threads": CapacityLimiter(settings.max_requests),
                        "storage": storage,
                        **dialects_state,
                    }
        finally:
            service.close()

    return lifespan
