"""Open connections are bounded, in all and from one address; what is refused is told so."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import pytest
import uvicorn

from clipmod_cli.server.protocol.connection import Connection
from clipmod_cli.server.protocol.limit import FEWEST, REFUSAL, ConnectionLimit, connection_limit
from tests.server.protocol.test_connections import PATIENCE_S, answer

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(ASK)
    return await reader.readuntil(b"here")


async def refused_beyond(limit: ConnectionLimit) -> None:
    config = uvicorn.Config(
        answer,
        http=partial(Connection, limit=limit),  # type: ignore[arg-type]  # makes connections
        ws="none",
        lifespan="off",
        log_config=None,
        port=0,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(limit.most)]
    try:
        for reader, writer in opened:
            assert b"200 OK" in await ask(reader, writer)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == REFUSAL
        writer.close()
        for reader, writer in opened:  # the others are not disturbed
            assert b"200 OK" in await ask(reader, writer)
        opened[0][1].close()
        while limit.now == limit.most:  # noqa: ASYNC110 — the server's side of it tells nobody
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert b"200 OK" in await ask(reader, writer)
        writer.close()
    finally:
        for _, writer in opened:
            writer.close()
        server.force_exit = True
        await server.shutdown()


def test_one_more_than_the_limit_is_refused_until_one_ends() -> None:
    limit = ConnectionLimit(3)
    asyncio.run(asyncio.wait_for(refused_beyond(limit), PATIENCE_S))
    assert limit.now == 0


def test_the_refusal_is_a_whole_answer() -> None:
    head, _, body = REFUSAL.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_an_address_has_three_quarters_and_a_proxy_on_this_machine_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limit = ConnectionLimit(8)
    with caplog.at_level(logging.WARNING):
        taken = [limit.take("203.0.113.7") for _ in range(8)]
        assert taken == [True] * 6 + [False] * 2
        assert [limit.take("2001:db8::1"), limit.take("203.0.113.9"), limit.take("198.51.100.1")] == [
            True,
            True,
            False,
        ]
    assert [record.message for record in caplog.records] == [
        "connections are refused: 6 are open, 6 of them from 203.0.113.7"
    ]
    for address in ("203.0.113.7",) * 6 + ("2001:db8::1", "203.0.113.9"):
        limit.give(address)
    assert limit.now == 0
    assert [limit.take("127.0.0.1") for _ in range(9)] == [True] * 8 + [False]


def test_addresses_of_one_ipv6_network_are_one() -> None:
    limit = ConnectionLimit(4)
    assert [limit.take(f"2001:db8:1:2::{number}") for number in range(1, 5)] == [True, True, True, False]


def test_a_process_allows_half_of_its_descriptors() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
        limit = connection_limit()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft >= min(1024, before[1])
        assert limit.most == max(FEWEST, soft // 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
