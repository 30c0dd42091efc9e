"""Opens a service from settings: models, the fallback, decoders, and the rows of this run."""

from __future__ import annotations

import logging
from dataclasses import replace

from clipmod_cli.assemble import ModelChoice, choose, decoding_options, load_models
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import MissingError
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy import Policy
from clipmod_cli.models.backends import FALLBACK
from clipmod_cli.models.hub.client import SILENT, DownloadProgress, Hub
from clipmod_cli.output.history.rows import open_rows
from clipmod_cli.pipeline import start_decoders
from clipmod_cli.server.batching.device_thread import DeviceThread
from clipmod_cli.server.panel import fallback_of, make_panel, with_stand_in
from clipmod_cli.server.request_limits import request_limits_of, with_limits
from clipmod_cli.server.service import Service, ServiceLoad
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.reading import Resolved

log = logging.getLogger(__name__)

DUPLICATE_CACHE_BYTES = 4_000_000
"""Of what models saw, for one request and no other: nobody can tell by the clock what others have sent."""

SECOND_PATIENCE_S = 2.0
"""Timeout of the hub for the fallback after loading the ensemble failed: both within the promised 10 s."""


def open_service(
    resolved: Resolved,
    choice: ModelChoice,
    policy: Policy,
    hub: Hub,
    *,
    command: str,
    progress: DownloadProgress | None = None,
) -> Service:
    """Return a service whose models are loaded and whose device thread runs.

    Raises:
        MissingError: if weights or a package are missing and cannot be downloaded.
        BlindModelError: if a model does not cover an UNSAFE category and that is not allowed.
    """
    settings = resolved.settings
    limits = request_limits_of(settings)
    options = decoding_options(settings, heic=settings.heic)
    options = replace(
        options, decode=with_limits(options.decode, limits), duplicate_cache_bytes=DUPLICATE_CACHE_BYTES
    )
    options = replace(options, decoders=start_decoders(options))
    ensemble, criteria, stand_in = _load(settings, choice, policy, hub, progress or SILENT)
    ensemble = with_stand_in(ensemble)
    panel = make_panel(ensemble, criteria, options.decode, stand_in=stand_in)
    service = Service(
        panel=panel,
        fallback=fallback_of(panel, options.decode),
        options=options,
        limits=limits,
        rows=open_rows(settings, panel.facts, [m.model.spec for m in ensemble.members], command),
        device=DeviceThread(),
        load=ServiceLoad(settings.max_requests),
        deadline_s=settings.deadline,
    )
    service.device.start()
    return service


def _load(
    settings: Settings, choice: ModelChoice, policy: Policy, hub: Hub, progress: DownloadProgress
) -> tuple[Ensemble, Criteria, bool]:
    """Return the models, and whether they replace an ensemble that cannot be loaded."""
    try:
        return *load_models(settings, choice, policy, hub, progress), False
    except MissingError as error:
        if len(choice.members) < 2:
            raise
        log.warning("the ensemble cannot be loaded (%s); the fallback judges, and all needs review", error)
        fallback = replace(choose([FALLBACK], policy, hub), degraded=True)
        asked_again = replace(hub, timeout_s=min(hub.timeout_s, SECOND_PATIENCE_S))
        return *load_models(settings, fallback, policy, asked_again, progress), True
