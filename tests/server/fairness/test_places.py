"""Places: how many requests are judged at once, and how many of them are one caller's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient

from clipmod_cli.server.fairness.callers import REQUEST, may_be_many, network_of
from clipmod_cli.server.fairness.places import BusyError, OverShareError, ServiceLoad, share_of
from clipmod_cli.server.gate.keys import keys_of
from clipmod_cli.server.request_info import RequestInfo
from clipmod_cli.settings.definition import Settings
from tests.server.gate.doors import BASE, KEY, OTHER, Seen, build

FAR = ("198.51.100.1", "198.51.100.2", "198.51.100.3")


@contextmanager
def as_caller(client: str, key_id: str = "") -> Iterator[str]:
    """Be in a request of this caller for the block."""
    info = RequestInfo(id="x", method="POST", path="/", client=client, key_id=key_id)
    before = REQUEST.set(info)
    try:
        yield info.caller
    finally:
        REQUEST.reset(before)


def test_one_caller_has_three_quarters_and_the_others_find_the_rest() -> None:
    load = ServiceLoad(4)
    with ExitStack() as held:
        with as_caller(FAR[0]):
            for _ in range(3):
                held.enter_context(load.one())
            with pytest.raises(OverShareError), load.one():
                pass
        with as_caller(FAR[1]):
            held.enter_context(load.one())
            with pytest.raises(BusyError) as refused, load.one():
                pass
        assert not isinstance(refused.value, OverShareError)  # the service is full, whoever asks
    assert (load.now, load.peak) == (0, 4)


@pytest.mark.parametrize(
    ("caller", "explicit", "share"),
    [
        (FAR[0], None, 48),
        (FAR[0], 5, 5),
        (FAR[0], 500, 64),
        ("127.0.0.1", None, 64),  # may be a proxy, and all its clients
        ("127.0.0.1", 5, 5),
        ("::1", None, 64),
        ("", None, 64),  # behind a Unix socket
        ("0a1b2c3d", None, 48),  # a key, at whatever address
        ("2001:db8::/64", None, 48),
    ],
)
def test_the_share_of_a_caller(caller: str, explicit: int | None, share: int) -> None:
    assert share_of(64, caller, explicit) == share
    assert share_of(1, caller) == 1  # everybody has one


def test_an_address_of_this_machine_is_told_from_others() -> None:
    assert may_be_many(network_of("::ffff:127.0.0.1"))
    assert may_be_many(network_of("::1"))
    assert not may_be_many(network_of("::ffff:192.0.2.1"))


@pytest.fixture
def held_key() -> str:
    """The short id of KEY."""
    return keys_of(Settings(api_keys=(KEY,))).find(KEY.encode())


def test_a_caller_over_its_share_is_told_429_and_others_are_served(held_key: str) -> None:
    load, seen = ServiceLoad(8, most_per_caller=1), Seen()
    client = TestClient(build(seen, load, api_keys=(KEY, OTHER)), base_url=BASE)
    with as_caller("192.0.2.7", held_key), load.one():
        answer = client.post("/predict/single", content=b"x", headers={"X-API-Key": KEY})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert "one caller" in answer.json()["detail"]
        assert seen.last.refused == "share"
        other = client.post("/predict/single", content=b"xyz", headers={"X-API-Key": OTHER})
        assert (other.status_code, other.text) == (200, "3")
    assert client.post("/predict/single", content=b"x", headers={"X-API-Key": KEY}).text == "1"


def run_turns(load: ServiceLoad, callers: list[str], **how: Any) -> list[str]:
    """Return in which order requests of these callers, all there at once, get their places."""
    order: list[str] = []

    async def one(number: int, client: str) -> None:
        with as_caller(client):
            async with load.turn(**how):
                order.append(f"{client}/{number}")
                await asyncio.sleep(0)

    async def all_at_once() -> None:
        await asyncio.gather(*(one(number, client) for number, client in enumerate(callers)))

    asyncio.run(all_at_once())
    return order


def test_who_waits_gets_a_place_before_a_caller_who_has_many() -> None:
    load = ServiceLoad(2, most_per_caller=2)
    many, one = FAR[0], FAR[1]
    order = run_turns(load, [many] * 6 + [one])
    assert order.index(f"{one}/6") <= 3  # not behind all of the six that came before it
    assert len(order) == 7
    assert load.now == 0


def test_a_caller_with_its_share_waits_while_places_are_free() -> None:
    load = ServiceLoad(8, most_per_caller=1)
    assert len(run_turns(load, [FAR[0]] * 5)) == 5
    assert load.peak == 1


def test_who_waits_too_long_is_told_so_and_leaves_nothing_behind() -> None:
    load = ServiceLoad(1)
    with as_caller(FAR[0]), load.one(), pytest.raises(BusyError):
        run_turns(load, [FAR[1]], patience_s=0.01)
    assert run_turns(load, [FAR[2]]) == [f"{FAR[2]}/0"]


def test_who_leaves_while_waiting_leaves_nothing_behind() -> None:
    load = ServiceLoad(1)

    async def wait() -> None:
        async with load.turn():
            raise AssertionError("there was no place")

    async def leave_twice() -> None:
        with load.one():
            before = asyncio.create_task(wait())
            late = asyncio.create_task(wait())
            await asyncio.sleep(0)
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)
        late.cancel()  # it was given the place, and does not know of it yet
        results = await asyncio.gather(late, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert load.now == 0
        async with load.turn() as count:
            assert count == 1

    asyncio.run(leave_twice())
