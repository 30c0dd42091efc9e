"""How many bodies, and how much of them, the service keeps at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.errors import UsageError
from clipmod_cli.server.fairness.bodies import OpenBodies
from clipmod_cli.server.fairness.places import BusyError, OverShareError
from clipmod_cli.server.gate.stack import gate_of
from clipmod_cli.settings.definition import Settings
from tests.server.gate.doors import KEY, OTHER, Seen, build, gated

MB = 1_000_000


def test_one_callers_bodies_leave_room_for_others() -> None:
    bodies = OpenBodies(most=4, most_bytes=100)
    for _ in range(3):
        bodies.open("many", 0)
    with pytest.raises(OverShareError):
        bodies.open("many", 0)
    bodies.open("one", 20)
    with pytest.raises(BusyError):
        bodies.open("third", 0)
    bodies.add("many", 70)
    with pytest.raises(OverShareError):
        bodies.add("many", 6)
    bodies.add("one", 30)
    with pytest.raises(BusyError):
        bodies.add("one", 1)
    bodies.close("many", 70)
    bodies.add("one", 1)
    for caller, size in (("many", 0), ("many", 0), ("one", 31)):
        bodies.close(caller, size)
    assert (bodies.now, bodies.bytes_now, dict(bodies._count), dict(bodies._bytes)) == (0, 0, {}, {})


class Slow:
    """Requests whose bodies arrive when they are told to."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.tasks: list[asyncio.Task[None]] = []
        self.statuses: list[int] = []

    def begin(self, key: str, chunks: Sequence[bytes], more: asyncio.Event, **headers: str) -> None:
        """Begin a request that sends these chunks, then waits for the event, then ends."""
        left = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        scope: Scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": "/predict/single",
            "raw_path": b"", "root_path": "", "query_string": b"", "scheme": "http",
            "client": ("192.0.2.1", 1), "state": {},
            "headers": [(b"host", b"127.0.0.1"), (b"x-api-key", key.encode())]
            + [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip

        async def receive() -> Message:
            if left:
                return left.pop(0)
            await more.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])
                if message["status"] in {429, 503}:
                    assert (b"retry-after", b"1") in message["headers"]

        receiver: Receive = receive
        sender: Send = send
        self.tasks.append(asyncio.create_task(self.app(scope, receiver, sender)))  # type: ignore[arg-type]


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def _run(settings: dict[str, Any], seen: Seen, begin: Any) -> list[int]:
    """Return the statuses in the order of the answers; `begin` is called with the requests and an event."""

    async def run() -> list[int]:
        slow, more = Slow(build(seen, api_keys=(KEY, OTHER), **settings)), asyncio.Event()
        await begin(slow, more)
        await _settle()
        more.set()
        await asyncio.gather(*slow.tasks)
        return slow.statuses

    return asyncio.run(run())


def test_slow_uploads_beyond_a_callers_share_are_429_and_others_are_read() -> None:
    async def begin(slow: Slow, more: asyncio.Event) -> None:
        for _ in range(8):  # four bodies for each of two places
            slow.begin(KEY, [b"x"], more)
        await _settle()
        slow.begin(OTHER, [b"x"], more)

    seen = Seen()
    statuses = _run({"max_requests": 2}, seen, begin)
    assert statuses == [429, 429, *[200] * 7]
    assert [one.refused for one in seen.ended_ones] == ["share", "share", *[""] * 7]


def test_a_body_that_there_is_no_room_for_is_refused_before_or_while_it_arrives() -> None:
    async def begin(slow: Slow, more: asyncio.Event) -> None:
        slow.begin(KEY, [], more, content_length=str(MB))  # more than the three quarters of one caller
        slow.begin(KEY, [bytes(700_000)], more)
        await _settle()
        slow.begin(KEY, [bytes(10_000)] * 10, more)
        slow.begin(OTHER, [bytes(100_000)], more)
        await _settle()
        slow.begin(OTHER, [bytes(250_000)], more)

    assert _run({"max_bodies_mb": 1}, Seen(), begin) == [429, 429, 503, 200, 200]


def test_a_caller_behind_a_believed_proxy_is_its_forwarded_address() -> None:
    def client_of(proxy: str, trusted: tuple[str, ...], **headers: str) -> str:
        seen = Seen()
        client = gated(seen, forwarded_allow_ips=trusted)
        client.app = _from(client.app, proxy)
        client._transport.app = client.app  # type: ignore[attr-defined]
        client.get("/", headers={name.replace("_", "-"): value for name, value in headers.items()})
        return seen.last.client

    given = {"X_Forwarded_For": "203.0.113.9, 198.51.100.4, 10.1.1.1"}
    assert client_of("10.0.0.7", ("10.0.0.0/8",), **given) == "198.51.100.4"  # what is left of it is made up
    assert client_of("10.0.0.7", ("10.0.0.7",), **given) == "10.1.1.1"
    assert client_of("192.0.2.1", ("10.0.0.0/8",), **given) == "192.0.2.1"
    assert client_of("10.0.0.7", (), **given) == "10.0.0.7"


def _from(app: Any, address: str) -> ASGIApp:
    async def moved(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": (address, 1)}, receive, send)

    return moved


@pytest.mark.parametrize("text", ["*", "proxy", "10.0.0.0/33", "10.0.0.7/8"])
def test_whom_to_believe_is_an_address_or_a_network(text: str) -> None:
    with pytest.raises(UsageError, match="--forwarded-allow-ips"):
        gate_of(Settings(forwarded_allow_ips=(text,)))
