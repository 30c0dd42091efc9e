"""`/stats`: the identities of the printed sample, and whose errors and waits are counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.request import urlopen

import pytest
from starlette.testclient import TestClient

from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.server.service import Service
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.types import Frame
from tests.server.conftest import SettingsOf, opened
from tests.server.ensemble.pictures import BLUE_SQUARE, EVERYTHING, RED_CIRCLE, TEXT
from tests.server.listening import Upload, listening, part


def test_the_identities_of_the_printed_sample_hold(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def single(data: bytes) -> Any:
        return client.post("/predict/single", files={"file": ("a", data)})

    files = [("files", (f"{number}", data)) for number, data in enumerate((*EVERYTHING, TEXT))]
    answers = [single(RED_CIRCLE), single(BLUE_SQUARE), single(TEXT)]
    answers.append(single(RED_CIRCLE[: len(RED_CIRCLE) // 2]))  # judged, and answered as an error
    answers.append(client.post("/predict/streaming", files=files))
    answers.append(client.post("/predict/multi", files=files))
    with monkeypatch.context() as patch:
        for member in service.panel.ensemble.members:
            patch.setattr(member.model, "submit", fail)
        answers.append(single(BLUE_SQUARE))
    assert [one.status_code for one in answers] == [200, 200, 400, 400, 200, 400, 500]
    told = client.get("/stats").json()
    stored = told["database_stats"]["total_predictions_stored"]
    assert told["nsfw_detections"] + told["safe_detections"] == told["total_images_processed"] == stored == 6
    assert told["total_requests"] == len(answers)
    assert told["models_usage"]["triple_ensemble"] == 4  # requests, not pictures
    assert told["error_rate"] == pytest.approx(1 / len(answers), abs=1e-6)  # 400 is a caller's
    speed = told["performance_metrics"]
    assert 0 < told["average_processing_time_ms"] <= speed["p99_processing_time_ms"]
    assert 0 < speed["average_latency_ms"] <= speed["p99_latency_ms"]


def fail(_: Sequence[Frame]) -> Callable[[], ForwardPass]:
    raise RuntimeError("broken")


def test_an_upload_that_stalls_is_not_judged_at_the_same_time(settings_of: SettingsOf) -> None:
    resolved: Resolved = settings_of(access_log=False)
    head = b'\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    with opened(resolved) as service, listening(service, resolved.settings) as port:
        stalled = [Upload(port, "/predict/single") for _ in range(5)]
        for upload in stalled:
            upload.send(head + BLUE_SQUARE[:20])
        for _ in range(2):
            quick = Upload(port, "/predict/single")
            quick.send(part("file", "a.png", BLUE_SQUARE))
            quick.finish()
            assert quick.answer().status == 200
            quick.close()
        for upload in stalled:
            upload.close()
        with urlopen(f"http://127.0.0.1:{port}/stats") as answer:
            told = json.load(answer)
    assert told["performance_metrics"]["max_concurrent_requests"] == 1
