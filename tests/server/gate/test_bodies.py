"""Bodies that come slowly, or stop coming."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.server.gate.middleware import BodyPaceMiddleware


class Slow:
    """A client that sends pieces, each after so many seconds, and then nothing; and what it was answered."""

    def __init__(self, pieces: Sequence[tuple[float, bytes]], patience_s: float) -> None:
        self.pieces, self.patience_s = list(pieces), patience_s
        self.sent: list[Message] = []

    def talk_to(self, app: ASGIApp) -> list[Message]:
        """Send everything to an application behind the layer; return its answer."""
        scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "client": None}
        asyncio.run(self._go(BodyPaceMiddleware(app, self.patience_s), scope))
        return self.sent

    async def _go(self, layer: BodyPaceMiddleware, scope: Scope) -> None:
        await layer(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if not self.pieces:
            await asyncio.Event().wait()
        wait_s, body = self.pieces.pop(0)
        await asyncio.sleep(wait_s)
        return {"type": "http.request", "body": body, "more_body": body != b"end"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


class Reader:
    """Reads all, then answers."""

    def __init__(self) -> None:
        self.read = bytearray()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            self.read.extend(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


def talk(
    pieces: Sequence[tuple[float, bytes]], *, patience_s: float, app: ASGIApp | None = None
) -> tuple[list[Message], bytes]:
    """Return the answer to these pieces, and what was read of them."""
    reader = Reader()
    return Slow(pieces, patience_s).talk_to(app or reader), bytes(reader.read)


def test_a_body_that_stops_coming_is_408() -> None:
    sent, read = talk([(0, b"begin")], patience_s=0.05)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"detail" in sent[1]["body"]
    assert read == b"begin"


def test_drops_that_each_come_in_time_do_not_help() -> None:
    sent, _ = talk([(0.02, b"x")] * 50, patience_s=0.2)
    assert sent[0]["status"] == 408


def test_bytes_earn_time() -> None:
    sent, read = talk([(0, b"x" * 4096)] + [(0.05, b"x" * 4096)] * 19 + [(0, b"end")], patience_s=0.5)
    assert sent[0]["status"] == 200
    assert len(read) == 20 * 4096 + 3


def test_time_that_the_application_takes_is_not_the_clients() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            await asyncio.sleep(0.3)
            assert (await receive())["type"] == "http.request"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent, _ = talk([(0, b"a"), (0, b"end")], patience_s=0.5, app=slow)
    assert sent[0]["status"] == 200


def test_an_answer_that_has_begun_is_cut_off_not_replaced() -> None:
    async def streaming(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        message = await receive()
        assert message["type"] == "http.disconnect"

    sent, _ = talk([], patience_s=0.05, app=streaming)
    assert [message.get("status") for message in sent] == [200]


def test_after_the_body_a_wait_for_the_clients_leaving_may_last() -> None:
    async def waiting(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent, _ = talk([(0, b"end")], patience_s=0.5, app=waiting)
    assert sent[0]["status"] == 200
