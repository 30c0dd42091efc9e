"""`/`, `/health` and `/config`: what this service is, whether it is well, and how it judges."""

from __future__ import annotations

import platform
from datetime import UTC, datetime

from fastapi import APIRouter

from clipmod_cli import __version__
from clipmod_cli.server.apis.ensemble.about import describing
from clipmod_cli.server.apis.ensemble.about.shapes import (
    Config,
    Configuration,
    Database,
    Health,
    LimitsInfo,
    Models,
    Root,
    System,
)
from clipmod_cli.server.apis.ensemble.answers import whole
from clipmod_cli.server.forms.streamed import formats_of
from clipmod_cli.server.kept.storage import ServiceStorage
from clipmod_cli.server.service import Service
from clipmod_cli.server.state import Configured, Served, Stored
from clipmod_cli.settings.definition import Settings

router = APIRouter()

MESSAGE = "NSFW Detection API"
API_VERSION = "1.0.0"
ENDPOINTS = {
    "single_prediction": "/predict/single",
    "multi_prediction": "/predict/multi",
    "streaming_prediction": "/predict/streaming",
    "health_check": "/health",
    "configuration": "/config",
    "statistics": "/stats",
    "web_interface": "/ui",
}
"""The document's own words."""


@router.get("/", summary="What this is")
async def root(service: Served) -> Root:
    """Name the endpoints, and who can judge."""
    return Root(
        message=MESSAGE,
        version=API_VERSION,
        status="operational" if service.device.alive and not service.draining else "unavailable",
        models_available=[panel.key for panel in describing.panels(service)],
        endpoints=ENDPOINTS,
    )


@router.get("/health", summary="Whether models and store are as they should be")
async def health(service: Served, settings: Configured, storage: Stored) -> Health:
    """Tell the truth about models and store. The status is `degraded` where a stand-in judges."""
    pong = await storage.ping.check()
    database = Database(
        connected=pong.connected, ping_success=pong.connected, response_time_ms=pong.response_time_ms
    )
    models = _models(service, settings, storage)
    well = (pong.connected or settings.no_db) and service.device.alive and not _stands_in(service, storage)
    return Health(
        status="healthy" if well else "degraded",
        timestamp=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        models=models,
        database=database,
        configuration=_configuration(service, settings, storage),
        system=System(
            api_version=API_VERSION,
            python_version=platform.python_version(),
            clipmod_version=__version__,
        ),
    )


@router.get("/config", summary="How this service judges, and its limits")
async def config(service: Served, settings: Configured, storage: Stored) -> Config:
    """Tell models, weights, categories, thresholds and limits in force."""
    common = _configuration(service, settings, storage)
    return Config(
        triple_model_ensemble=describing.ensemble_config(service),
        fallback_model=describing.fallback_config(service),
        **common.model_dump(),
        max_total_request_size_mb=settings.max_stream_mb,
        database_connected=(await storage.ping.check()).connected,
        limits=_limits(settings),
    )


def _stands_in(service: Service, storage: ServiceStorage) -> bool:
    return storage.stood_in or service.panel.stand_in or service.panel.criteria.degraded


def _models(service: Service, settings: Settings, storage: ServiceStorage) -> Models:
    status, details = describing.models(service, settings)
    judging = service.fallback if storage.stood_in and service.fallback else service.panel
    return Models(status=status, details=details, total_enabled=sum(status.values()), judging=judging.key)


def _configuration(service: Service, settings: Settings, storage: ServiceStorage) -> Configuration:
    policy = service.panel.policy
    return Configuration(
        sensitivity_level=settings.sensitivity,
        nsfw_threshold=policy.threshold_for("medium"),
        effective_threshold=service.panel.criteria.threshold,
        enable_image_hosting=storage.hosting is not None,
        image_expiry_hours=whole(settings.image_expiry_hours),
        max_image_size_mb=settings.max_image_mb,
        policy=policy.name,
    )


def _limits(settings: Settings) -> LimitsInfo:
    return LimitsInfo(
        multi_files=settings.max_multi_files,
        multi_size_mb=settings.max_multi_mb,
        urls=settings.max_url_count,
        url_timeout_s=settings.timeout,
        streaming_files=settings.max_stream_files,
        streaming_size_mb=settings.max_stream_mb,
        deadline_s=settings.deadline,
        requests_at_once=settings.max_requests,
        formats=list(formats_of(settings)),
    )
