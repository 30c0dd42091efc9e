"""The application: one router for each interface over one service. Starts nothing by itself.

`clipmod serve` opens the service (`clipmod_cli.server.opening`) and hands it in; tests do the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import CapacityLimiter
from fastapi import FastAPI

from clipmod_cli import __version__
from clipmod_cli.server.apis import ensemble
from clipmod_cli.server.apis.classes import router
from clipmod_cli.server.apis.classes.words import ClassVectors
from clipmod_cli.server.apis.classifier import router as classifier_api
from clipmod_cli.server.apis.classifier.models import classifiers_of
from clipmod_cli.server.environment import documented_environment
from clipmod_cli.server.gate.stack import gate_of
from clipmod_cli.server.kept.request_rows import RequestRows
from clipmod_cli.server.kept.storage import keep
from clipmod_cli.server.operations import docs_pages, openapi, probes
from clipmod_cli.server.operations.access_log import access_log_of
from clipmod_cli.server.operations.metrics import metrics_of, metrics_router
from clipmod_cli.server.problems import handle_problems
from clipmod_cli.server.request_info import RequestObserver
from clipmod_cli.server.service import Service
from clipmod_cli.server.state import State
from clipmod_cli.server.ui import router as ui
from clipmod_cli.settings import Settings

DESCRIPTION = """
Judges pictures and videos with an ensemble of OpenCLIP models, a detector, or any Hugging Face image
classifier. Three known interfaces share one pipeline, one policy and one queue.
"""


def create_app(service: Service, settings: Settings) -> FastAPI:
    """Return the application over an open service, which ends with it.

    Raises:
        SettingsError: if the list of classifiers or a documented variable makes no sense.
        UsageError: if there is no key where others could ask, and nobody said `--no-auth`.
    """
    classifiers = classifiers_of(settings, documented_environment())
    gate = gate_of(settings)
    metrics = metrics_of(service)
    observers: list[RequestObserver] = [metrics.requests, RequestRows(service), *access_log_of(settings)]

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        threads = CapacityLimiter(settings.max_requests)
        try:
            async with keep(settings) as kept:
                metrics.hosting.watch(kept.hosting)
                yield State(
                    service=service,
                    settings=settings,
                    threads=threads,
                    classifiers=classifiers,
                    words=ClassVectors(),
                    kept=kept,
                )
        finally:
            service.close()

    app = FastAPI(
        title="clipmod",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_tags=openapi.TAGS,
        middleware=gate.layers(observers, service.load),
    )
    handle_problems(app)
    openapi.describe(app, keys=gate.keys.wanted)
    app.include_router(probes.router)
    app.include_router(ensemble.router)
    app.include_router(classifier_api.router)
    app.include_router(router.router)
    app.include_router(metrics_router(metrics))
    app.include_router(gate.login)
    app.include_router(docs_pages.router)
    app.include_router(ui)
    return app
