"""Pictures by URL: the operator's own hosts, the times of a download, and a code for each that failed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from clipmod_cli.errors import SettingsError
from clipmod_cli.server.apis.downloading import fetch_rules
from clipmod_cli.server.configuration import request_limits_of
from clipmod_cli.server.service import Service
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.reading import Resolved
from tests.server.ensemble.pictures import RED_CIRCLE
from tests.urls.server import Server, redirect, reply, serving


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A web server of the operator's own, on loopback."""
    with serving() as server:
        server.on("/a.png", reply(body=RED_CIRCLE))
        yield server


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    """Another web server on loopback, which no setting names."""
    with serving() as server:
        server.on("/a.png", reply(body=RED_CIRCLE))
        yield server


@pytest.fixture(scope="module")
def resolved(resolved: Resolved, own: Server) -> Resolved:
    """The settings, with `own` as a host that downloads may come from."""
    settings = dataclasses.replace(resolved.settings, allow_host=(f"localhost:{own.port}",), timeout=25.0)
    return dataclasses.replace(resolved, settings=settings)


def test_pictures_of_the_operators_own_host_are_judged(client: TestClient, own: Server) -> None:
    url = own.url("/a.png")
    told = client.post("/predict/urls", json={"urls": [url]}).json()
    assert [one["final_decision"] for one in told["predictions"]] == ["NSFW"]
    answer = client.post("/classify/", data={"location": url, "classes": "red circle, blue square"})
    assert answer.json()["result"]["prediction"] == "red circle"


def test_no_other_private_host_is_asked_not_even_by_redirect(
    client: TestClient, own: Server, other: Server
) -> None:
    own.on("/elsewhere", redirect(other.url("/a.png")))
    urls = [own.url("/a.png", "127.0.0.1"), other.url("/a.png"), own.url("/elsewhere")]
    told = client.post("/predict/urls", json={"urls": urls}).json()
    assert told["predictions"] == []
    assert len(told["summary"]["errors"]) == 3
    answer = client.post("/classify/", data={"location": own.url("/elsewhere")})
    assert answer.status_code == 400
    assert "--" not in answer.json()["detail"]  # callers have no flags
    assert other.asked == []


def test_the_configuration_tells_how_many_hosts_and_not_which(client: TestClient, own: Server) -> None:
    answer = client.get("/config")
    assert answer.json()["limits"]["allowed_hosts"] == 1
    assert str(own.port) not in answer.text


def test_silence_is_waited_for_as_long_as_the_configuration_says(
    client: TestClient, service: Service
) -> None:
    rules = asyncio.run(fetch_rules(service))
    limit = client.get("/config").json()["limits"]["url_timeout_s"]
    assert (rules.read_s, rules.total_s, rules.video_s) == (limit, limit, limit) == (25.0,) * 3


def test_a_host_that_is_none_ends_the_start() -> None:
    with pytest.raises(SettingsError, match="--allow-host"):
        request_limits_of(Settings(allow_host=("10.0.0.0/8",)))
