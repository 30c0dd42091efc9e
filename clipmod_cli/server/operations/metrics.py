"""`/metrics`: what this process has done since it started, as Prometheus reads it.

Numbers kept across restarts are `/stats`. Labels take few values, whatever clients send: endpoints by
their templates, categories of the policy, codes of the closed list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from clipmod_cli import __version__
from clipmod_cli.server.kept.hosting import HostedPictures
from clipmod_cli.server.request_info import REASONS, RequestInfo
from clipmod_cli.server.service import JudgedItem, Service
from clipmod_cli.types import Failure

LATENCIES_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""From a probe to the longest deadline."""

FORWARDS_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""From one picture on a GPU to a full batch of the ensemble on two cores."""

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
NOWHERE: Final = "(none)"
"""The endpoint of what no endpoint answered."""

EXAMPLE: Final = """\
# HELP clipmod_requests_total Requests answered
# TYPE clipmod_requests_total counter
clipmod_requests_total{method="POST",route="/predict/single",status="200"} 12.0
"""


class RequestMetrics:
    """Counts requests: an observer of them all."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answered = Counter(
            "clipmod_requests", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "clipmod_request_seconds",
            "From a request's first byte to its answer's last",
            ["route"],
            buckets=LATENCIES_S,
            registry=registry,
        )
        self.in_flight = Gauge("clipmod_requests_in_flight", "Requests under way", registry=registry)
        self.refused = Counter(
            "clipmod_requests_refused", "Requests turned away at the door", ["reason"], registry=registry
        )
        self.received = Counter("clipmod_received_bytes", "Of request bodies", registry=registry)
        for reason in REASONS:  # at 0, so that a rise from nothing is a rise
            self.refused.labels(reason)

    def begun(self, asked: RequestInfo) -> None:  # noqa: ARG002 — the observer's signature
        """Count a request under way."""
        self.in_flight.inc()

    def ended(self, asked: RequestInfo) -> None:
        """Count a request that ended."""
        route = asked.route or NOWHERE
        self.in_flight.dec()
        self.answered.labels(route, asked.method, str(asked.status)).inc()
        self.seconds.labels(route).observe(asked.seconds)
        self.received.inc(asked.bytes_in)
        if asked.refused:
            self.refused.labels(asked.refused).inc()


class JudgingMetrics:
    """Counts forward passes and what was judged. Safe to use from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.frames = Histogram(
            "clipmod_batch_frames", "Frames in one forward pass", buckets=BATCHES, registry=registry
        )
        self.forwards = Histogram(
            "clipmod_forward_seconds", "One forward pass", buckets=FORWARDS_S, registry=registry
        )
        self.decisions = Counter(
            "clipmod_decisions", "Items judged", ["decision", "category", "judged_by"], registry=registry
        )
        self.failures = Counter(
            "clipmod_item_failures", "Items that could not be judged", ["stage", "code"], registry=registry
        )
        self.items = Histogram(
            "clipmod_item_seconds",
            "An item's own way through, waiting included",
            buckets=LATENCIES_S,
            registry=registry,
        )

    def measured(self, frames: int, seconds: float) -> None:
        """Count a forward pass."""
        self.frames.observe(frames)
        self.forwards.observe(seconds)

    def judged(self, one: JudgedItem) -> None:
        """Count an item that was judged, or could not be."""
        if isinstance(one.result, Failure):
            self.failures.labels(one.result.stage, one.result.code).inc()
            return
        category = one.record.ensemble_category or NOWHERE
        self.decisions.labels(one.record.final_decision or NOWHERE, category, one.panel.key).inc()
        self.items.observe(one.result.total_ms / 1000)


class HostingMetrics:
    """How much is kept for `/image`; 0 where nothing is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pictures = Gauge("clipmod_hosted_pictures", "Pictures kept for /image", registry=registry)
        self.size = Gauge("clipmod_hosted_bytes", "Bytes of pictures kept for /image", registry=registry)

    def watch(self, hosting: HostedPictures | None) -> None:
        """Ask this one whenever somebody reads the metrics."""
        if hosting is not None:
            self.pictures.set_function(hosting.__len__)
            self.size.set_function(lambda: hosting.size)


@dataclass(frozen=True)
class Metrics:
    """The numbers of one application."""

    registry: CollectorRegistry
    requests: RequestMetrics
    judging: JudgingMetrics
    hosting: HostingMetrics

    def show(self, name: str, text: str, function: Callable[[], float]) -> None:
        """Add a number that is asked for whenever somebody reads the metrics."""
        Gauge(name, text, registry=self.registry).set_function(function)


def metrics_of(service: Service) -> Metrics:
    """Return numbers of all that the service does from now on."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second number for each, which nobody asks for
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    metrics = Metrics(registry, RequestMetrics(registry), JudgingMetrics(registry), HostingMetrics(registry))
    _listen(service, metrics.judging)
    metrics.show("clipmod_queue_frames", "Frames that wait for a model", lambda: len(service.measuring.turns))
    metrics.show("clipmod_requests_admitted", "Requests that hold a place", lambda: service.load.now)
    metrics.show("clipmod_requests_limit", "How many may hold one", lambda: service.load.most)
    metrics.show("clipmod_ready", "1 where /readyz says so", lambda: float(service.ready))
    info = Gauge("clipmod_info", "Who judges, by what", ["version", "judged_by", "policy"], registry=registry)
    info.labels(__version__, service.panel.key, service.panel.policy.name).set(1)
    return metrics


def _listen(service: Service, judging: JudgingMetrics) -> None:
    """Have the service tell, besides whom it tells already."""
    before = service.watch

    def judged(one: JudgedItem) -> None:
        before(one)
        judging.judged(one)

    service.watch = judged
    service.measuring.watch = judging.measured


def metrics_router(metrics: Metrics) -> APIRouter:
    """Return the endpoint."""
    router = APIRouter(tags=["operations"])

    @router.get(
        "/metrics",
        summary="Numbers for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"example": EXAMPLE}}}},
    )
    async def read(request: Request) -> Response:
        """Answer in the format that the reader asks for: Prometheus' own, or OpenMetrics."""
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), media_type=kind)

    return router
