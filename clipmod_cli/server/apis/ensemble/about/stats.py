"""`/stats`: what the store knows of all runs of `clipmod serve`, and how long this one is up."""

from __future__ import annotations

import logging
import time
from typing import Any

from anyio import to_thread
from fastapi import APIRouter

from clipmod_cli.errors import ClipmodError
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.server.apis.ensemble.about.describing import panels
from clipmod_cli.server.apis.ensemble.about.shapes import DatabaseStats, PerformanceMetrics, Stats
from clipmod_cli.server.apis.ensemble.shapes import ProblemAnswer
from clipmod_cli.server.problems import problem
from clipmod_cli.server.service import Service
from clipmod_cli.server.state import Served, Stored

router = APIRouter()
log = logging.getLogger(__name__)


@router.get(
    "/stats",
    summary="What was judged so far",
    responses={404: {"model": ProblemAnswer, "description": "No statistics are kept (--no-db)"}},
)
async def stats(service: Served, storage: Stored) -> Stats:
    """Sum up all requests that the store knows, those of earlier runs among them."""
    if storage.store is None:
        raise problem(404, "No statistics are kept by this service (--no-db)")
    try:
        told = await to_thread.run_sync(_ask, service, storage.store)
    except ClipmodError as e:
        log.warning("the statistics cannot be read: %s", e)
        raise problem(503, "The statistics cannot be read now. Try again soon") from e
    return _shape(told, service)


def _ask(service: Service, store: HistoryStore) -> dict[str, Any]:
    service.rows.flush()
    return store.serve_stats()


def _shape(told: dict[str, Any], service: Service) -> Stats:
    usage = dict.fromkeys((panel.key for panel in panels(service)), 0)
    whole = ("total_requests", "total_images_processed", "nsfw_detections", "safe_detections")
    return Stats(
        **{name: told[name] for name in whole},
        average_confidence=_number(told["average_confidence"], 6),
        average_processing_time_ms=_number(told["average_processing_time_ms"]),
        models_usage={**usage, **told["models_usage"]},
        error_rate=_number(told["error_rate"], 6),
        uptime_hours=round((time.time() - service.started) / 3600, 4),
        database_stats=DatabaseStats(
            total_predictions_stored=told["total_predictions_stored"],
            total_images_hosted=told["total_images_hosted"],
            database_size_mb=_number(told["database_size_mb"]),
        ),
        performance_metrics=PerformanceMetrics(
            p95_processing_time_ms=_number(told["p95_processing_time_ms"]),
            p99_processing_time_ms=_number(told["p99_processing_time_ms"]),
            max_concurrent_requests=max(told["max_concurrent_requests"], service.load.peak),
        ),
    )


def _number(value: float | None, digits: int = 3) -> float:
    """Return a number as it is printed: 0 where nothing was counted yet."""
    return round(float(value or 0.0), digits)
