"""Connections that come to no request are closed; those that ask in time are left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from clipmod_cli.server.gate.middleware import ProtocolFaultMiddleware
from clipmod_cli.server.protocol import connection
from clipmod_cli.server.protocol.connection import Connection
from clipmod_cli.server.protocol.strict import HEAD_BYTES

PATIENCE_S = 15.0

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]


SOON_S = 0.3
"""The patience of a connection that a test can wait for."""


class Hasty(Connection):
    head_s = SOON_S


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("here")(scope, receive, send)  # without reading the body


def talk(client: Client, *, stay: bool = False) -> Any:
    """Return what tells of a client's talk with a server, which with `stay` ends before the client."""

    async def go() -> Any:
        config = uvicorn.Config(
            ProtocolFaultMiddleware(answer),
            http=Hasty,
            ws="none",
            lifespan="off",
            log_config=None,
            port=0,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=2 * round(PATIENCE_S),
        )
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(PATIENCE_S):
                told = await client(reader, writer)
            if not stay:
                writer.close()
            return told
        finally:
            server.force_exit = not stay
            async with asyncio.timeout(PATIENCE_S):
                await server.shutdown()
            writer.close()

    return asyncio.run(go())


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(4)


def test_silence_is_ended() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> bytes:
        return await reader.read()

    assert talk(silent) == b""


def test_headers_that_come_drop_by_drop_are_ended() -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        end = asyncio.create_task(reader.read())
        while not end.done():
            writer.write(b"X: y\r\n")
            await asyncio.sleep(0.05)
        return await end

    assert talk(dripping).startswith(b"HTTP/1.1 408 ")


def test_headers_without_end_are_ended() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (4 * HEAD_BYTES))
        return (await reader.read()).startswith(b"HTTP/1.1 431 ")

    assert talk(endless)


def test_a_connection_rests_between_requests_and_is_asked_again() -> None:
    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[bytes]:
        told = []
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            told.append(await read_answer(reader))
            await asyncio.sleep(3 * SOON_S)
        return told

    assert [text.endswith(b"here") for text in talk(twice)] == [True, True]


def test_a_body_that_nobody_reads_is_taken_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "DRAIN_BYTES", 10 * HEAD_BYTES)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"

    async def sending_all_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(head % (5 * HEAD_BYTES) + b"z" * (5 * HEAD_BYTES))
        await writer.drain()
        return await read_answer(reader)

    async def sending_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(head % 10**12)
        await read_answer(reader)
        try:
            while True:
                writer.write(b"z" * HEAD_BYTES)
                await writer.drain()
        except ConnectionError:
            return "cut"

    assert talk(sending_all_first).endswith(b"here")
    assert talk(sending_for_ever) == "cut"


def test_a_client_that_still_sends_does_not_hold_up_the_end() -> None:
    async def sending_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 999\r\n\r\nabc")
        return await reader.read()

    assert talk(sending_on, stay=True).endswith(b"here")
