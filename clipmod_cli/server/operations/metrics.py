"""`/metrics`: what this process has done since it started, for Prometheus.

`/stats` has the numbers that are kept across restarts. Labels take few values whatever clients send:
endpoints by their path templates, categories of the policy, codes of the closed list.
"""

from __future__ import annotations

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
NONE: Final = "(none)"
"""The route label of requests that matched no endpoint."""

EXAMPLE: Final = """\
# HELP clipmod_requests_total Requests answered
# TYPE clipmod_requests_total counter
clipmod_requests_total{method="POST",route="/predict/single",status="200"} 12.0
"""


class RequestMetrics:
    """Counts requests; an observer of all of them."""

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
        self.in_flight = Gauge("clipmod_requests_in_flight", "Requests in progress", registry=registry)
        self.refused = Counter(
            "clipmod_requests_refused",
            "Requests refused before an endpoint ran",
            ["reason"],
            registry=registry,
        )
        self.received = Counter("clipmod_received_bytes", "Of request bodies", registry=registry)
        for reason in REASONS:  # start at 0, so that the first refusal is an increase
            self.refused.labels(reason)

    def started(self, info: RequestInfo) -> None:  # noqa: ARG002 — the observer's signature
        """Count a request in progress."""
        self.in_flight.inc()

    def finished(self, info: RequestInfo) -> None:
        """Count a finished request."""
        route = info.route or NONE
        self.in_flight.dec()
        self.answered.labels(route, info.method, str(info.status)).inc()
        self.seconds.labels(route).observe(info.seconds)
        self.received.inc(info.bytes_in)
        if info.refused:
            self.refused.labels(info.refused).inc()


class JudgingMetrics:
    """Counts forward passes and judged items. Safe to use from any thread."""

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
            "Latency of one item, queueing included",
            buckets=LATENCIES_S,
            registry=registry,
        )

    def measured(self, frames: int, seconds: float) -> None:
        """Count a forward pass."""
        self.frames.observe(frames)
        self.forwards.observe(seconds)

    def judged(self, one: JudgedItem) -> None:
        """Count a judged or failed item."""
        if isinstance(one.result, Failure):
            self.failures.labels(one.result.stage, one.result.code).inc()
            return
        category = one.record.ensemble_category or NONE
        self.decisions.labels(one.record.final_decision or NONE, category, one.panel.key).inc()
        self.items.observe(one.result.total_ms / 1000)


class Metrics:
    """The numbers of one application, from now on."""

    def __init__(self, service: Service) -> None:
        """Add the metrics to the service's watchers."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one unused series for each counter
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self.requests = RequestMetrics(self.registry)
        judging = JudgingMetrics(self.registry)
        service.watchers.append(judging.judged)
        service.device.watch = judging.measured
        gauges = {
            "clipmod_queue_frames": ("Frames that wait for a model", lambda: len(service.device.queue)),
            "clipmod_requests_admitted": ("Requests that hold a place", lambda: service.load.now),
            "clipmod_requests_limit": ("Places for requests", lambda: service.load.most),
            "clipmod_ready": ("1 if /readyz answers 200", lambda: float(service.ready)),
        }
        for name, (text, function) in gauges.items():
            Gauge(name, text, registry=self.registry).set_function(function)
        labels = ["version", "judged_by", "policy"]
        info = Gauge("clipmod_info", "The program, its models and policy", labels, registry=self.registry)
        info.labels(__version__, service.panel.key, service.panel.policy.name).set(1)
        self._pictures = Gauge("clipmod_hosted_pictures", "Pictures kept for /image", registry=self.registry)
        self._bytes = Gauge(
            "clipmod_hosted_bytes", "Bytes of pictures kept for /image", registry=self.registry
        )

    def watch_hosting(self, hosting: HostedPictures | None) -> None:
        """Report the hosted pictures; 0 without hosting."""
        if hosting is not None:
            self._pictures.set_function(hosting.__len__)
            self._bytes.set_function(lambda: hosting.size)


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
        """Return the format that the Accept header names: Prometheus text or OpenMetrics."""
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), media_type=kind)

    return router
