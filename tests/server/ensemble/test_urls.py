"""Pictures by URL: the operator's own hosts, the times of a download, and a code for each that failed."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.testclient import TestClient

from clipmod_cli.errors import ERROR_CODES, SettingsError
from clipmod_cli.server.apis.downloading import fetch_rules
from clipmod_cli.server.configuration import request_limits_of
from clipmod_cli.server.service import Service
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.reading import Resolved
from tests.server.ensemble.pictures import CUT, RED_CIRCLE, TEXT
from tests.server.listening import wait_until
from tests.urls.server import Server, after, redirect, reply, serving


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


BY_URL: dict[str, Callable[[str], dict[str, Any]]] = {
    "/predict/urls": lambda url: {"json": {"urls": [url]}},
    "/v1/moderations": lambda url: {"json": {"input": [{"type": "image_url", "image_url": {"url": url}}]}},
    "/classify/": lambda url: {"data": {"location": url, "classes": "red circle, blue square"}},
}
"""All endpoints that download, with what asks them for a URL."""


@pytest.mark.parametrize("path", BY_URL)
def test_a_slow_url_holds_no_place(
    client: TestClient, service: Service, own: Server, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.load, "most", 1)
    answers = threading.Event()
    url = own.on(f"/slow{path}", after(answers, reply(body=RED_CIRCLE)))
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        stack.callback(answers.set)
        waiting = pool.submit(client.post, path, **BY_URL[path](url))
        wait_until(lambda: f"/slow{path}" in own.paths())
        assert (service.load.now, service.downloads.now) == (0, 1)
        assert client.post("/predict/single", files={"file": ("a.png", RED_CIRCLE)}).status_code == 200
        answers.set()
        assert waiting.result().status_code == 200
    assert (service.load.now, service.downloads.now) == (0, 0)


def test_silence_is_waited_for_as_long_as_the_configuration_says(
    client: TestClient, service: Service
) -> None:
    rules = asyncio.run(fetch_rules(service))
    limit = client.get("/config").json()["limits"]["url_timeout_s"]
    assert (rules.read_s, rules.total_s, rules.video_s) == (limit, limit, limit) == (25.0,) * 3


def test_a_host_that_is_none_ends_the_start() -> None:
    with pytest.raises(SettingsError, match="--allow-host"):
        request_limits_of(Settings(allow_host=("10.0.0.0/8",)))


def test_each_failed_url_has_a_code_of_the_closed_list(
    client: TestClient, own: Server, other: Server
) -> None:
    own.on("/page.html", reply(body=b"<html>no picture</html>"))
    own.on("/cut.jpg", reply(body=RED_CIRCLE[:60]))
    own.on("/short.jpg", reply(body=RED_CIRCLE[: len(RED_CIRCLE) // 2]))
    expected = {
        own.url("/none.png"): "http_error",
        other.url("/a.png"): "blocked_address",
        own.url("/page.html"): "not_an_image",
        own.url("/cut.jpg"): "decode_error",
        own.url("/short.jpg"): "not_looked_at",
    }
    told = client.post("/predict/urls", json={"urls": [*expected, own.url("/a.png")]}).json()
    details = told["summary"]["error_details"]
    assert {one["url"]: one["code"] for one in details} == expected
    assert {one["code"] for one in details} <= {*ERROR_CODES, "not_looked_at"}
    assert [f"Error for {one['url']}: {one['message']}" for one in details] == told["summary"]["errors"]
    assert "127.0.0.1" not in json.dumps(details)


def test_without_a_failure_there_are_no_codes(client: TestClient, own: Server) -> None:
    told = client.post("/predict/urls", json={"urls": [own.url("/a.png")]}).json()
    assert (told["summary"]["errors"], told["summary"]["error_details"]) == (None, None)


def test_an_error_line_of_a_stream_has_a_code(client: TestClient) -> None:
    half = RED_CIRCLE[: len(RED_CIRCLE) // 2]
    files = [("files", (name, data)) for name, data in (("a.txt", TEXT), ("b.jpg", CUT), ("c.jpg", half))]
    lines = client.post("/predict/streaming", files=files).text.split("\n\n")[:-1]
    *errors, _summary = (json.loads(line.removeprefix("data: ")) for line in lines)
    assert [one["code"] for one in errors] == ["unsupported_format", "decode_error", "not_looked_at"]


def test_a_url_that_would_be_passed_over_refuses_the_request(client: TestClient, own: Server) -> None:
    url = own.url("/a.png")
    twice = f'{{"urls": ["{url}"], "urls": ["{url}"]}}'
    answer = client.post("/predict/urls", content=twice, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "The body is not valid JSON: the key 'urls' is given more than once",
    )
    assert client.post("/predict/urls", json={"urls": [url], "url": url}).status_code == 422
