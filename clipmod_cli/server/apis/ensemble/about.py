"""`/`, `/health`, `/config` and `/stats`: the service itself, its models, settings and numbers."""

from __future__ import annotations

import logging
import platform
import time
from datetime import UTC, datetime
from typing import Any, Final

from anyio import to_thread
from fastapi import APIRouter

from clipmod_cli import __version__
from clipmod_cli.errors import ClipmodError
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.backends import FALLBACK as FALLBACK_SPEC
from clipmod_cli.models.specs import parse_models
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.server.apis.choosing import allowed_names, policy_names
from clipmod_cli.server.apis.ensemble import service_shapes as shapes
from clipmod_cli.server.apis.ensemble.answers import METHOD, whole
from clipmod_cli.server.apis.ensemble.hosted import kept_files_info
from clipmod_cli.server.apis.ensemble.shapes import ProblemAnswer
from clipmod_cli.server.forms.streamed import formats_of
from clipmod_cli.server.panels import EMBEDDED, FALLBACK, TRIPLE, Panel
from clipmod_cli.server.problems import problem
from clipmod_cli.server.service import Service
from clipmod_cli.server.state import Configured, Served, Stored
from clipmod_cli.server.storage import ServiceStorage
from clipmod_cli.settings.definition import Settings

router = APIRouter()
log = logging.getLogger(__name__)

MESSAGE: Final = "NSFW Detection API"
API_VERSION: Final = "1.0.0"
ENDPOINTS: Final = {
    "single_prediction": "/predict/single",
    "multi_prediction": "/predict/multi",
    "streaming_prediction": "/predict/streaming",
    "health_check": "/health",
    "configuration": "/config",
    "statistics": "/stats",
    "web_interface": "/ui",
}
TYPES: Final = {
    TRIPLE: "Triple-Model Ensemble System",
    EMBEDDED: "Light models",
    FALLBACK: "OpenCLIP-L/14 - Fallback Model",
}
DESCRIPTIONS: Final = {
    "ViT-L-14": "Large Vision Transformer - Primary model",
    "ViT-H-14": "Huge Vision Transformer - Enhanced accuracy",
    "ViT-g-14": "Giant Vision Transformer - Maximum capacity",
}
"""The document's own words."""

KINDS: Final = {"text-image": "Vision Transformer", "classifier": "Image classifier", "detector": "Detector"}
LOCAL: Final = "local"
"""In place of a folder's path."""


@router.get("/", summary="What this is")
async def root(service: Served) -> shapes.Root:
    """Return the endpoints and the loaded panels."""
    return shapes.Root(
        message=MESSAGE,
        version=API_VERSION,
        status="operational" if service.readiness.fault is None and not service.draining else "unavailable",
        models_available=[panel.key for panel in service.panels],
        endpoints=ENDPOINTS,
    )


@router.get("/health", summary="Whether models and store work")
async def health(service: Served, settings: Configured, storage: Stored) -> shapes.Health:
    """Check models and store. The status is `degraded` while a fallback judges or nothing can be judged."""
    ping = await storage.ping.check(service.rows)
    stands_in = storage.stood_in or service.panel.stand_in or service.panel.criteria.degraded
    judges = service.readiness.fault is None and not service.readiness.degraded
    well = (ping.connected or settings.no_db) and judges and not stands_in
    return shapes.Health(
        status="healthy" if well else "degraded",
        timestamp=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        models=_models(service, settings, storage),
        database=shapes.Database(
            connected=ping.connected, ping_success=ping.connected, response_time_ms=ping.response_time_ms
        ),
        configuration=_configuration(service, settings, storage),
        system=shapes.System(
            api_version=API_VERSION, python_version=platform.python_version(), clipmod_version=__version__
        ),
    )


@router.get("/config", summary="How this service judges, and its limits")
async def config(service: Served, settings: Configured, storage: Stored) -> shapes.Config:
    """Return models, weights, categories, thresholds and limits in force."""
    panel = service.panel
    fallback = next((one for one in service.panels if one.key == FALLBACK), None)
    spec = _spec_of(fallback)
    return shapes.Config(
        triple_model_ensemble=shapes.EnsembleConfig(
            enabled=panel.key == TRIPLE,
            models=[
                shapes.WeightedModel(
                    name=m.model.name,
                    weight=round(m.weight, 6),
                    description=DESCRIPTIONS.get(m.model.name, KINDS[m.model.kind]),
                )
                for m in panel.ensemble.members
            ],
            classification_categories={
                c.name: shapes.CategoryInfo(label=c.label, safety=c.safety, description=c.description)
                for c in panel.policy.categories
            },
            ensemble_method=METHOD,
            confidence_threshold=panel.criteria.threshold,
            agreement_threshold=panel.policy.agreement_threshold,
        ),
        fallback_model=shapes.FallbackConfig(
            openclip_model_name=spec.short_name,
            openclip_pretrained=spec.tag or LOCAL,
            enabled=fallback is not None,
        ),
        **_configuration(service, settings, storage).model_dump(),
        max_total_request_size_mb=settings.max_stream_mb,
        database_connected=(await storage.ping.check(service.rows)).connected,
        coverage=settings.coverage,
        allowed_policies=policy_names(service),
        allowed_parameters=allowed_names(settings),
        limits=_limits(settings),
        kept=kept_files_info(settings, predictions=storage.predictions is not None),
    )


@router.get(
    "/stats",
    summary="What was judged so far",
    responses={404: {"model": ProblemAnswer, "description": "No statistics are kept (--no-db)"}},
)
async def stats(service: Served, storage: Stored) -> shapes.Stats:
    """Sum up all requests in the store, those of earlier runs included."""
    if storage.store is None:
        raise problem(404, "No statistics are kept by this service (--no-db)")
    try:
        numbers = await to_thread.run_sync(_read_stats, service, storage, storage.store)
    except (ClipmodError, OSError) as e:
        log.warning("the statistics cannot be read: %s", e)
        raise problem(503, "The statistics cannot be read now. Try again soon") from e
    return _stats_answer(numbers, service)


def _models(service: Service, settings: Settings, storage: ServiceStorage) -> shapes.Models:
    """Return which models are loaded; both documented keys are always there."""
    loaded = {panel.key: panel for panel in service.panels}
    keys = dict.fromkeys([TRIPLE, FALLBACK, *loaded])
    status = {key: service.device.alive and key in loaded for key in keys}
    judging = service.fallback if storage.stood_in and service.fallback else service.panel
    return shapes.Models(
        status=status,
        details={
            key: _ensemble(key, service, loaded.get(key), loaded=status[key])
            if key in {TRIPLE, EMBEDDED}
            else _single(loaded.get(key), settings, loaded=status[key])
            for key in keys
        },
        total_enabled=sum(status.values()),
        judging=judging.key,
    )


def _ensemble(key: str, service: Service, panel: Panel | None, *, loaded: bool) -> shapes.EnsembleDetails:
    members = panel.ensemble.members if panel is not None else ()
    return shapes.EnsembleDetails(
        loaded=loaded,
        type=TYPES[key],
        models=[m.model.name for m in members],
        weights={m.model.name: f"{m.weight * 100:g}%" for m in members},
        classification_categories=[c.name for c in service.panel.policy.categories],
        ensemble_method=METHOD,
    )


def _single(panel: Panel | None, settings: Settings, *, loaded: bool) -> shapes.SingleDetails:
    spec = _spec_of(panel)
    model = None if panel is None else panel.ensemble.members[0].model
    return shapes.SingleDetails(
        loaded=loaded,
        type=TYPES[FALLBACK] if model is None or model.kind == "text-image" else KINDS[model.kind],
        model_info=shapes.ModelInfo(
            device=settings.device if model is None else model.device,
            model_name=spec.short_name,
            pretrained=spec.tag or LOCAL,
        ),
    )


def _spec_of(panel: Panel | None) -> ModelSpec:
    """Return the spec of the first model; of the documented fallback without a panel."""
    text = FALLBACK_SPEC if panel is None else panel.ensemble.members[0].model.spec
    return next(member.spec for member in parse_models([text]) if not isinstance(member, str))


def _configuration(service: Service, settings: Settings, storage: ServiceStorage) -> shapes.Configuration:
    policy = service.panel.policy
    return shapes.Configuration(
        sensitivity_level=settings.sensitivity,
        nsfw_threshold=policy.threshold_for("medium"),
        effective_threshold=service.panel.criteria.threshold,
        enable_image_hosting=storage.hosting is not None,
        image_expiry_hours=whole(settings.image_expiry_hours),
        max_image_size_mb=settings.max_image_mb,
        policy=policy.name,
    )


def _limits(settings: Settings) -> shapes.LimitsInfo:
    return shapes.LimitsInfo(
        multi_files=settings.max_multi_files,
        multi_size_mb=settings.max_multi_mb,
        urls=settings.max_url_count,
        url_timeout_s=settings.timeout,
        allowed_hosts=len(settings.allow_host),
        streaming_files=settings.max_stream_files,
        streaming_size_mb=settings.max_stream_mb,
        videos_size_mb=settings.max_video_mb,
        deadline_s=settings.deadline,
        requests_at_once=settings.max_requests,
        requests_at_once_per_caller=settings.max_requests_per_caller,
        requests_a_minute=settings.rate_limit,
        bodies_size_mb=settings.max_bodies_mb,
        formats=list(formats_of(settings)),
    )


def _read_stats(service: Service, storage: ServiceStorage, store: HistoryStore) -> dict[str, Any]:
    service.rows.check()  # while no row can be added, the numbers would lack the last ones
    return store.serve_stats(0 if storage.hosting is None else storage.hosting.count())


def _stats_answer(numbers: dict[str, Any], service: Service) -> shapes.Stats:
    """Return the answer; numbers are 0 where nothing was counted yet."""

    def rounded(names: str, digits: int = 3) -> dict[str, Any]:
        return {name: round(float(numbers[name] or 0.0), digits) for name in names.split()}

    usage = dict.fromkeys((panel.key for panel in service.panels), 0)
    counts = ("total_requests", "total_images_processed", "nsfw_detections", "safe_detections")
    return shapes.Stats(
        **{name: numbers[name] for name in counts},
        **rounded("average_confidence error_rate", 6),
        **rounded("average_processing_time_ms"),
        models_usage={**usage, **numbers["models_usage"]},
        uptime_hours=round((time.time() - service.started) / 3600, 4),
        database_stats=shapes.DatabaseStats(
            total_predictions_stored=numbers["total_predictions_stored"],
            total_images_hosted=numbers["total_images_hosted"],
            **rounded("database_size_mb"),
        ),
        performance_metrics=shapes.PerformanceMetrics(
            **rounded("p95_processing_time_ms p99_processing_time_ms"),
            **rounded("average_latency_ms p95_latency_ms p99_latency_ms"),
            max_concurrent_requests=max(numbers["max_concurrent_requests"], service.load.peak),
        ),
    )
