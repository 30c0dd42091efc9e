"""A full service turns work away before it reads a byte of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from clipmod_cli.server.fairness.places import BusyError, ServiceLoad
from clipmod_cli.server.gate.capacity import CapacityMiddleware
from tests.server.gate.doors import BASE, KEY, Seen, build


@pytest.mark.parametrize("path", ["/predict/single", "/classify/"])
def test_a_full_service_refuses_and_says_when_to_come_again(path: str) -> None:
    load, seen = ServiceLoad(1), Seen()
    client = TestClient(build(seen, load), base_url=BASE)
    with load.one():
        answer = client.post(path, content=b"x" * 1000)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json() == {"detail": "The service is busy. Try again soon"}
        assert seen.last.refused == "busy"
        assert client.get("/healthz").is_success
        assert client.get("/ui").is_success
        assert client.post("/read", content=b"x").text == "1"  # which judges nothing
    assert client.post(path, content=b"xyz").text == "3"


def test_nothing_is_read_of_a_body_that_is_refused() -> None:
    load = ServiceLoad(0)
    sent: list[Message] = []
    scope: Scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/predict/single", "raw_path": b"",
        "root_path": "", "query_string": b"", "scheme": "http", "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"127.0.0.1"), (b"content-length", b"50000000")],
    }  # fmt: skip

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(build(load=load)(scope, receive, send))
    assert [one.get("status") for one in sent] == [503, None]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_what_is_no_request_passes(kind: str) -> None:
    passed: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        passed.append(scope)

    scope: Scope = {"type": kind, "path": "/predict/single"}
    asyncio.run(CapacityMiddleware(app, ServiceLoad(0), ("/predict/",))(scope, _nothing, _nothing))
    assert passed == [scope]


async def _nothing(*_: Any) -> Any:
    raise AssertionError("nobody asks")


def test_who_has_no_key_does_not_learn_that_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", KEY)
    client = TestClient(build(load=ServiceLoad(0)), base_url=BASE)
    assert client.post("/predict/single").status_code == 401
    assert client.post("/predict/single", headers={"X-API-Key": KEY}).status_code == 503


def test_a_place_that_was_left_is_free_again() -> None:
    load = ServiceLoad(1)
    with load.one():
        assert load.full
        with pytest.raises(BusyError), load.one():
            pass
    assert not load.full
