"""Models that raise, or see what is no number: every endpoint that judges says so, and none says Safe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.server.apis.downloading import fetch_rules
from clipmod_cli.server.service import Service
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.sources.web.addresses import AddressRules, FetchRules
from clipmod_cli.types import Embedding, Frame, Seen
from tests.end_to_end.command import TINY_ENSEMBLE
from tests.server.classifier.making import only_tiny
from tests.server.conftest import client_of, opened
from tests.server.ensemble.pictures import BLUE_SQUARE
from tests.urls.server import Server, reply, serving

SAFE_PICTURE = BLUE_SQUARE
"""What the models that work call Safe: a fault that is overlooked would show."""

Submit = Callable[[Sequence[Frame]], Callable[[], ForwardPass]]


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolved]:
    """Settings of the tiny ensemble."""
    with pytest.MonkeyPatch.context() as patch:
        models = tuple(TINY_ENSEMBLE.split(","))
        yield only_tiny(tmp_path_factory.mktemp("home"), patch, models=models, access_log=False)


@pytest.fixture(scope="module")
def service(resolved: Resolved) -> Iterator[Service]:
    """That service, open."""
    with opened(resolved) as one:
        yield one


@pytest.fixture(scope="module")
def client(service: Service, resolved: Resolved) -> Iterator[TestClient]:
    """A client of it, whose downloads may come from loopback."""
    with client_of(service, resolved) as one:
        app: Any = one.app
        app.dependency_overrides[fetch_rules] = lambda: FetchRules(access=AddressRules(private=True))
        yield one


@pytest.fixture(scope="module")
def web() -> Iterator[Server]:
    """A web server with the picture."""
    with serving() as server:
        server.on("/a.png", reply(body=SAFE_PICTURE))
        yield server


def raise_on_purpose(_real: Submit, _frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
    raise RuntimeError("/secret/path: the device is gone")


def see_no_numbers(real: Submit, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
    """Return what is really seen, with one number of each vector lost."""
    found: list[Seen] = []
    done = real(frames)()
    for seen in done.seen:
        assert isinstance(seen, Embedding)
        vector = seen.vector.copy()
        vector[0] = np.nan
        found.append(replace(seen, vector=vector))
    return lambda: replace(done, seen=found)


def ask(client: TestClient, web: Server, path: str) -> Any:
    """Send the picture to an endpoint that judges."""
    name = {"/predict/single": "file", "/classify/": "image"}.get(path, "files")
    if path == "/predict/urls":
        return client.post(path, json={"urls": [web.url("/a.png")]})
    return client.post(path, files={name: ("a.png", SAFE_PICTURE)})


PATHS = ("/predict/single", "/predict/multi", "/predict/urls", "/predict/streaming", "/classify/")


@pytest.mark.parametrize("fault", [raise_on_purpose, see_no_numbers])
@pytest.mark.parametrize("path", PATHS)
def test_a_fault_of_all_models_is_an_error_and_never_safe(
    client: TestClient, service: Service, web: Server, monkeypatch: pytest.MonkeyPatch, fault: Any, path: str
) -> None:
    with monkeypatch.context() as patch:
        for member in service.panel.ensemble.members:
            model: Any = member.model
            patch.setattr(model, "submit", partial(fault, model.submit))
        answer = ask(client, web, path)
    assert "Safe" not in answer.text
    assert "secret" not in answer.text
    if path == "/predict/streaming":
        error, summary = (json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n")[:-1])
        assert (error["type"], summary["safe_count"], len(summary["errors"])) == ("error", 0, 1)
    elif path == "/predict/urls":
        told = answer.json()
        assert (told["predictions"], told["summary"]["safe_images"]) == ([], 0)
        assert len(told["summary"]["errors"]) == 1
    else:
        assert (answer.status_code, list(answer.json())) == (500, ["detail"])
    assert ask(client, web, path).status_code == 200  # and the service goes on


@pytest.mark.parametrize("fault", [raise_on_purpose, see_no_numbers])
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_fault_of_one_model_is_seen_by_a_person_or_is_an_error(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch, fault: Any, broken: int
) -> None:
    model: Any = service.panel.ensemble.members[broken].model
    monkeypatch.setattr(model, "submit", partial(fault, model.submit))
    answer = client.post("/predict/single", files={"file": ("a.png", SAFE_PICTURE)})
    if answer.status_code == 200:
        told = answer.json()
        assert (list(told["results"]), told["needs_review"]) == (["openclip_fallback"], True)
    else:
        assert answer.status_code == 500
