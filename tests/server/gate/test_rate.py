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


def test_every_counted_answer_tells_what_is_left() -> None:
    client = gated(rate_limit=3, api_keys=(KEY,), cors_origin=("https://app.example.org",))
    page = {"X-API-Key": KEY, "Origin": "https://app.example.org"}
    answers = [client.get("/", headers=page) for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert [one.headers["ratelimit-remaining"] for one in answers] == ["2", "1", "0", "0"]
    for answer in answers:
        headers = answer.headers
        assert headers["ratelimit-limit"] == "3"
        assert 1 <= int(headers["ratelimit-reset"]) <= 20
        assert headers["ratelimit-policy"] == '"minute";q=3;w=60'
        left, reset = headers["ratelimit-remaining"], headers["ratelimit-reset"]
        assert headers["ratelimit"] == f'"minute";r={left};t={reset}'
        readable = headers["access-control-expose-headers"].lower().split(", ")
        assert {name for name in headers if "ratelimit" in name or name == "retry-after"} <= set(readable)
    assert answers[-1].headers["retry-after"] == answers[-1].headers["ratelimit-reset"]
    assert "ratelimit-limit" not in client.get("/healthz").headers  # which is not counted
    assert client.get("/").headers["ratelimit-remaining"] == "2"  # 401, of another caller
    assert "ratelimit-limit" not in gated().get("/").headers


@given(st.integers(1, 600), st.lists(st.floats(0, 3), min_size=1, max_size=100))
def test_what_is_said_to_be_left_is_left(a_minute: int, gaps: Sequence[float]) -> None:
    layer, now = limiter(a_minute)
    for gap in gaps:
        now[0] += gap
        quota = layer.count(asked())
    at_once = [layer.count(asked()).refused for _ in range(quota.remaining + 1)]
    assert at_once == [False] * quota.remaining + [True]
    now[0] += quota.reset_s
    assert not layer.count(asked()).refused


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
    assert not any(layer.count(asked()).refused for _ in range(3))
    refused = layer.count(asked())
    assert refused.refused
    assert refused.reset_s == pytest.approx(20)
    now[0] += refused.reset_s / 2
    assert layer.count(asked()).refused
    now[0] += refused.reset_s / 2
    assert not layer.count(asked()).refused
    assert layer.count(asked()).refused


@given(st.integers(1, 50), st.lists(st.floats(0, 5), max_size=200))
def test_never_more_than_a_burst_and_the_refill(a_minute: int, gaps: Sequence[float]) -> None:
    layer, now = limiter(a_minute)
    passed = 0
    for gap in gaps:
        now[0] += gap
        passed += not layer.count(asked()).refused
    assert passed <= a_minute + sum(gaps) * a_minute / 60 + 1e-3
    assert passed >= min(a_minute, len(gaps))


def test_callers_are_forgotten_when_they_are_too_many() -> None:
    layer, _ = limiter(1)
    for number in range(MOST_CALLERS + 10):
        assert not layer.count(asked(key_id=str(number))).refused
    assert len(layer._due) == MOST_CALLERS


def test_an_ipv6_customer_is_one_caller() -> None:
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("testclient") == "testclient"
