"""Times of answers: what a picture cost is no wait, sums are sums, and a request took as long as it took."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.server.service import JudgedItem, Service
from clipmod_cli.types import Frame
from tests.server.ensemble.pictures import BLUE_SQUARE, EVERYTHING
from tests.server.listening import wait_until

CALLERS = 8
ROUNDING_MS = 0.01


class SlowModel:
    """In the place of a model's `submit`: the first pass lasts until the other callers wait for the device.

    Attributes:
        busy_ms: how long the device computed, waiting included.
    """

    def __init__(
        self, real: Callable[[Sequence[Frame]], Callable[[], ForwardPass]], service: Service
    ) -> None:
        self.real, self.service = real, service
        self.busy_ms = 0.0
        self._first = threading.Lock()

    def __call__(self, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        done = self.real(frames)()
        if self._first.acquire(blocking=False):
            wait_until(lambda: len(self.service.device.queue) + len(frames) >= CALLERS)
            done = replace(done, seconds=done.seconds + 1.0)  # as if it had computed for a second
        self.busy_ms += done.seconds * 1000
        return lambda: done


def test_what_pictures_cost_is_no_more_than_the_device_spent(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[JudgedItem] = []
    monkeypatch.setattr(service, "watchers", [judged.append])
    models: list[Any] = [member.model for member in service.panel.ensemble.members]
    spies = [SlowModel(model.submit, service) for model in models]
    for spy in spies[1:]:  # one slow model is enough
        spy._first.acquire()
    for model, spy in zip(models, spies, strict=True):
        monkeypatch.setattr(model, "submit", spy)
    with ThreadPoolExecutor(CALLERS) as threads:
        told = list(
            threads.map(
                lambda _: client.post("/predict/single", files={"file": ("a.png", BLUE_SQUARE)}).json(),
                range(CALLERS),
            )
        )
    busy_ms = sum(spy.busy_ms for spy in spies)
    inference_ms = sum(one.record.inference_time_ms or 0.0 for one in judged)
    decoding_ms = sum(one.record.decode_time_ms or 0.0 for one in judged)
    assert inference_ms == pytest.approx(busy_ms, abs=ROUNDING_MS * CALLERS)
    assert sum(one["total_time_ms"] for one in told) == pytest.approx(
        busy_ms + decoding_ms, abs=ROUNDING_MS * CALLERS
    )
    for one in told:
        result = one["results"]["triple_ensemble"]
        assert result["processing_time_ms"] == one["total_time_ms"]
        assert 0 < one["latency_ms"] <= one["wall_time_ms"]


def check_sums(items: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Check the identities that the printed answers show."""
    total = sum(one["total_time_ms"] for one in items)
    assert summary["total_time_ms"] == pytest.approx(total, abs=1e-6)
    assert summary["average_time_per_image_ms"] == pytest.approx(total / len(items), abs=1e-3)
    assert max(one["latency_ms"] for one in items) <= summary["wall_time_ms"]


def test_sums_are_sums(client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[JudgedItem] = []
    monkeypatch.setattr(service, "watchers", [judged.append])
    files = [("files", (f"{number}.png", data)) for number, data in enumerate(EVERYTHING * 3)]
    told = client.post("/predict/multi", files=files).json()
    check_sums(told["predictions"], told["summary"])
    costs = [(one.record.decode_time_ms or 0) + (one.record.inference_time_ms or 0) for one in judged]
    assert [one["total_time_ms"] for one in told["predictions"]] == pytest.approx(costs)
    lines = client.post("/predict/streaming", files=files).text.split("\n\n")[:-1]
    *streamed, summary = (json.loads(line.removeprefix("data: ")) for line in lines)
    check_sums(streamed, summary)
