"""`/metrics`: what this process has done since it started, for Prometheus.

`/stats` has the numbers that are kept across restarts. Labels take few values whatever clients send:
endpoints by their path templates, categories of the policy, codes of the closed list.
"""

from __future__ import annotations

from functools import partial
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
from clipmod_cli.server.hosting.folder import QuotaFolder
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


class Metrics:
    """The numbers of one application: an observer of requests, judged items and forward passes."""

    def __init__(self, service: Service) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one unused series for each counter
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._counter = partial(Counter, registry=self.registry)
        self._gauge = partial(Gauge, registry=self.registry)
        self._histogram = partial(Histogram, registry=self.registry)
        self._requests()
        self._judging()
        gauges = {
            "clipmod_queue_frames": ("Frames that wait for a model", lambda: len(service.device.queue)),
            "clipmod_requests_admitted": ("Requests that hold a place", lambda: service.load.now),
            "clipmod_requests_limit": ("Places for requests", lambda: service.load.most),
            "clipmod_ready": ("1 if /readyz answers 200", lambda: float(service.ready)),
            "clipmod_line_ok": (
                "1 if the reference picture was judged and no forward pass is overdue",
                lambda: float(service.readiness.fault is None),
            ),
            "clipmod_draining": ("1 if the service is ending", lambda: float(service.draining)),
            "clipmod_forward_running_seconds": (
                "How long the current forward pass has taken so far",
                lambda: service.device.pass_seconds,
            ),
        }
        for name, (text, function) in gauges.items():
            self._gauge(name, text).set_function(function)
        labels = ["version", "judged_by", "policy"]
        info = self._gauge("clipmod_info", "The program, its models and policy", labels)
        info.labels(__version__, service.panel.key, service.panel.policy.name).set(1)
        self._kept = {
            "hosted": self._kept_gauges("clipmod_hosted_pictures", "clipmod_hosted_bytes", "hosted pictures"),
            "predictions": self._kept_gauges(
                "clipmod_prediction_files", "clipmod_prediction_bytes", "prediction files"
            ),
        }
        service.watchers.append(self.judged)
        service.device.watch = self.measured

    def _requests(self) -> None:
        self._answered = self._counter("clipmod_requests", "Requests answered", ("route", "method", "status"))
        text = "From a request's first byte to its answer's last"
        self._seconds = self._histogram("clipmod_request_seconds", text, ("route",), buckets=LATENCIES_S)
        self._in_flight = self._gauge("clipmod_requests_in_flight", "Requests in progress")
        text = "Requests refused before an endpoint ran"
        self._refused = self._counter("clipmod_requests_refused", text, ("reason",))
        self._received = self._counter("clipmod_received_bytes", "Of request bodies")
        for reason in REASONS:  # start at 0, so that the first refusal is an increase
            self._refused.labels(reason)

    def _judging(self) -> None:
        self._frames = self._histogram("clipmod_batch_frames", "Frames in one forward pass", buckets=BATCHES)
        self._forwards = self._histogram("clipmod_forward_seconds", "One forward pass", buckets=FORWARDS_S)
        labels = ("decision", "category", "judged_by")
        self._decisions = self._counter("clipmod_decisions", "Items judged", labels)
        text = "Items that could not be judged"
        self._failures = self._counter("clipmod_item_failures", text, ("stage", "code"))
        text = "Latency of one item, queueing included"
        self._items = self._histogram("clipmod_item_seconds", text, buckets=LATENCIES_S)

    def started(self, info: RequestInfo) -> None:  # noqa: ARG002 — the observer's signature
        """Count a request in progress."""
        self._in_flight.inc()

    def finished(self, info: RequestInfo) -> None:
        """Count a finished request."""
        route = info.route or NONE
        self._in_flight.dec()
        self._answered.labels(route, info.method, str(info.status)).inc()
        self._seconds.labels(route).observe(info.seconds)
        self._received.inc(info.bytes_in)
        if info.refused:
            self._refused.labels(info.refused).inc()

    def measured(self, frames: int, seconds: float) -> None:
        """Count a forward pass."""
        self._frames.observe(frames)
        self._forwards.observe(seconds)

    def judged(self, one: JudgedItem) -> None:
        """Count a judged or failed item."""
        if isinstance(one.result, Failure):
            self._failures.labels(one.result.stage, one.result.code).inc()
            return
        category = one.record.ensemble_category or NONE
        decision = "refused" if one.refused else one.record.final_decision or NONE
        self._decisions.labels(decision, category, one.panel.key).inc()
        self._items.observe(one.latency_ms / 1000)

    def _kept_gauges(self, number: str, size: str, what: str) -> tuple[Gauge, Gauge]:
        return self._gauge(number, f"Number of {what}"), self._gauge(size, f"Bytes of {what}")

    def watch_files(self, kind: str, folder: QuotaFolder | None) -> None:
        """Report the kept files of a kind, `hosted` or `predictions`; 0 without a folder."""
        if folder is not None:
            number, size = self._kept[kind]
            number.set_function(lambda: len(folder.ledger))
            size.set_function(lambda: folder.ledger.size)


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
