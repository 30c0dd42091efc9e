"""A model that raises or gives NaN, and a request whose time is up: an error, never an empty list."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from clipmod_cli.server.apis.classifier.models import Classifiers
from clipmod_cli.settings.reading import Resolved
from tests.server.classifier.making import gif, only_tiny, plain, png
from tests.server.conftest import client_of, opened, served
from tests.video.films import write_film

QUERY = "/api/image-query-classification"


def raise_on_purpose(_: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("the secret of /root")


def give_nan(logits: torch.Tensor) -> torch.Tensor:
    return logits * float("nan")


def model_of(client: TestClient) -> Any:
    """Return the loaded default classifier."""
    classifiers: Classifiers = client.app_state["classifiers"]
    return classifiers.load(classifiers.resolve([]), time.monotonic() + 60).members[0].model


def send(client: TestClient, data: bytes, path: str = QUERY) -> Any:
    return client.post(path, files={"file": ("a.bin", data)})


@pytest.mark.parametrize("fault", [raise_on_purpose, give_nan])
@pytest.mark.parametrize("path", [QUERY, "/api/image-classification"])
def test_a_failing_model_is_500_and_the_service_goes_on(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[torch.Tensor], torch.Tensor],
    path: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(model_of(client), "_activate", fault)
        answer = send(client, gif(["red", "blue"]), path)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert send(client, png("red")).json()[0]["label"] == "red"


def test_a_request_whose_time_is_up_is_504(resolved: Resolved, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(resolved) as service, client_of(service, resolved) as client:
        model = model_of(client)
        real = model._activate

        def slow(logits: torch.Tensor) -> torch.Tensor:
            time.sleep(0.3)
            return torch.as_tensor(real(logits))

        monkeypatch.setattr(model, "_activate", slow)
        service.deadline_s = 0.5
        answer = send(client, gif(["red", "blue"] * 20))
        service.deadline_s = 60.0
        assert answer.status_code == 504
        assert send(client, png("red")).json()[0]["label"] == "red"


def test_decoding_in_workers_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: tuple[str, ...]
) -> None:
    film = write_film(tmp_path / "1.mp4", [plain("blue"), plain("red")]).read_bytes()
    with served(only_tiny(tmp_path, monkeypatch, classifier=allowed, isolate=True)) as client:
        assert send(client, png("red")).json()[0]["label"] == "red"
        found = send(client, film, "/api/video-classification").json()
    assert [(hit["frame"], hit["label"]) for hit in found] == [(1, "blue"), (2, "red")]
