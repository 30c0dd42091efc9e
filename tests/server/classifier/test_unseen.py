"""Pictures of which something was not looked at, where answers are labels: an error, or told beside them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from clipmod_cli.server.service import Service
from clipmod_cli.settings.reading import Resolved
from tests.server.classifier.making import png
from tests.server.conftest import client_of, opened

FIELDS = {
    "/api/image-classification": "file",
    "/api/multi-image-classification": "files",
    "/api/image-query-classification": "file",
    "/api/multi-image-query-classification": "files",
    "/classify/": "image",
}


@pytest.fixture(scope="module")
def service(resolved: Resolved) -> Iterator[Service]:
    with opened(resolved) as one:
        yield one


@pytest.fixture(scope="module")
def client(service: Service, resolved: Resolved) -> Iterator[TestClient]:
    with client_of(service, resolved) as one:
        yield one


def cut() -> bytes:
    """Return a JPEG, mostly red, without its last part."""
    noise = np.random.default_rng(0).integers(0, 60, (96, 96, 3), np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise + np.array([160, 0, 0], np.uint8)).save(whole, "JPEG", quality=95)
    return whole.getvalue()[: int(len(whole.getvalue()) * 0.8)]


def send(client: TestClient, path: str, picture: bytes) -> Any:
    return client.post(path, files={FIELDS[path]: ("a.jpg", picture)})


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("mode", ["error", "flag"])
def test_it_is_refused_with_the_reason(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch, path: str, mode: str
) -> None:
    monkeypatch.setattr(service, "unseen", mode)
    answer = send(client, path, cut())
    detail = "a.jpg cannot be judged: not all of it was looked at (truncated)"
    assert (answer.status_code, answer.json()) == (400, {"detail": detail})


@pytest.mark.parametrize("path", FIELDS)
def test_the_operator_may_have_it_answered(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(service, "unseen", "safe")
    told = send(client, path, cut())
    assert told.status_code == 200, told.text
    assert '"review_reasons":["truncated"]' in told.text
    whole = send(client, path, png("red")).text
    assert "truncated" not in whole
    if path != "/classify/":
        assert "review_reasons" not in whole, "answers are as printed where nothing is missing"
