"""How often one caller may ask."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from clipmod_cli.server.fairness.callers import network_of
from clipmod_cli.server.gate.rate import MOST_CALLERS, RateLimitMiddleware
from clipmod_cli.server.request_info import RequestInfo
from tests.server.gate.doors import KEY, OTHER, gated


def asked(key_id: str = "", client: str = "192.0.2.1") -> RequestInfo:
    return RequestInfo(id="x", method="GET", path="/", client=client, key_id=key_id)


def limiter(a_minute: int) -> tuple[RateLimitMiddleware, list[float]]:
    now = [1000.0]

    async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None: ...

    return RateLimitMiddleware(nothing, a_minute, clock=lambda: now[0]), now


def test_one_more_than_allowed_is_429_and_says_when() -> None:
    client = gated(rate_limit=3)
    assert [client.get("/").status_code for _ in range(3)] == [200] * 3
    answer = client.get("/")
    assert (answer.status_code, set(answer.json())) == (429, {"detail"})
    assert 1 <= int(answer.headers["retry-after"]) <= 20
    assert client.get("/healthz").status_code == 200  # probes are not counted
    assert client.get("/ui/app.js").status_code == 200  # nor the page's files


def test_each_key_has_its_own_rate_and_guessing_is_counted_too() -> None:
    client = gated(rate_limit=2, api_keys=(KEY, OTHER))
    first, second = {"X-API-Key": KEY}, {"X-API-Key": OTHER}
    assert [client.get("/", headers=first).status_code for _ in range(3)] == [200, 200, 429]
    assert client.get("/", headers=second).status_code == 200
    wrong = [client.get("/", headers={"X-API-Key": str(n)}).status_code for n in range(3)]
    assert wrong == [401, 401, 429]
    assert client.get("/", headers=second).status_code == 200


def test_who_waits_as_told_is_let_through() -> None:
    layer, now = limiter(3)
    assert [layer.wait_s(asked()) for _ in range(3)] == [0.0] * 3
    wait = layer.wait_s(asked())
    assert wait == pytest.approx(20)
    now[0] += wait / 2
    assert layer.wait_s(asked()) > 0
    now[0] += wait / 2
    assert layer.wait_s(asked()) == 0
    assert layer.wait_s(asked()) > 0


@given(st.integers(1, 50), st.lists(st.floats(0, 5), max_size=200))
def test_never_more_than_a_burst_and_the_refill(a_minute: int, gaps: Sequence[float]) -> None:
    layer, now = limiter(a_minute)
    passed = 0
    for gap in gaps:
        now[0] += gap
        passed += not layer.wait_s(asked())
    assert passed <= a_minute + sum(gaps) * a_minute / 60 + 1e-3
    assert passed >= min(a_minute, len(gaps))


def test_callers_are_forgotten_when_they_are_too_many() -> None:
    layer, _ = limiter(1)
    for number in range(MOST_CALLERS + 10):
        assert not layer.wait_s(asked(key_id=str(number)))
    assert len(layer._due) == MOST_CALLERS


def test_an_ipv6_customer_is_one_caller() -> None:
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("testclient") == "testclient"
