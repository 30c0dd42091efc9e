"""By what name the service may be called, and from which page something may be sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import UsageError
from clipmod_cli.server.gate.stack import gate_of
from clipmod_cli.settings.definition import Settings
from tests.server.gate.doors import BASE, KEY, gated

PUBLIC = "https://Moderation.example.org/clipmod"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:8000", "localhost", "LocalHost:1", "localhost.", "[::1]:8000", "192.168.1.5",
        "moderation.example.org", "ours", "OURS:8000",
    ],
)  # fmt: skip
def test_names_that_no_page_elsewhere_can_have_are_answered_to(host: str) -> None:
    client = gated(public_url=PUBLIC, server_name=("ours",))
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "example.org", "", "a b",
        "127.0.0.1:8000/x", "user@127.0.0.1", "[::1", "[evil]", "127.0.0.1:port", "1.2.3.4.5",
    ],
)  # fmt: skip
def test_any_other_is_400_and_says_how_to_allow_it(host: str) -> None:
    answer = gated(public_url=PUBLIC, server_name=("ours",)).get("/", headers={"Host": host})
    assert answer.status_code == 400
    assert "--server-name" in answer.json()["detail"]


def test_a_star_allows_any_name() -> None:
    client = gated(server_name=("*",))
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 200


def test_with_keys_any_name_is_answered_to_that_is_one() -> None:
    client = gated(api_keys=(KEY,))
    headers = {"X-API-Key": KEY}
    assert client.get("/", headers={**headers, "Host": "any.example"}).status_code == 200
    assert client.get("/", headers={**headers, "Host": "a@b"}).status_code == 400


def test_two_names_are_none() -> None:
    headers = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    assert gated().get("/", headers=headers).status_code == 400


@pytest.mark.parametrize("origin", [BASE, "http://127.0.0.1:8000", None])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_programs_and_our_own_pages_may_send(origin: str | None, method: str) -> None:
    headers = {"Origin": origin} if origin else {}
    assert gated().request(method, "/", headers=headers).status_code in {200, 405}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8001"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:8000.evil.example"},
        {"Origin": "http://[::1"},
        {"Origin": "http://127.0.0.1:99999999"},
        {"Origin": "file://"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("settings", [{}, {"api_keys": (KEY,)}, {"public_url": PUBLIC}])
def test_pages_elsewhere_may_not(headers: dict[str, str], settings: dict[str, Any]) -> None:
    answer = gated(**settings).post("/", headers={**headers, "X-API-Key": KEY})
    assert (answer.status_code, set(answer.json())) == (403, {"detail"})


def test_what_only_reads_may_be_asked_from_anywhere() -> None:
    assert gated().get("/", headers={"Origin": "http://evil.example"}).status_code == 200
    assert (
        "access-control-allow-origin" not in gated().get("/", headers={"Origin": "http://e.example"}).headers
    )


def test_behind_a_proxy_the_public_address_is_our_own() -> None:
    client = gated(public_url=PUBLIC)
    assert client.post("/", headers={"Origin": "https://moderation.example.org"}).status_code == 200
    assert client.post("/", headers={"Origin": "http://moderation.example.org"}).status_code == 403
    own = {"Host": "moderation.example.org", "Origin": "https://moderation.example.org"}
    assert client.post("/", headers=own).status_code == 200  # TLS ends at the proxy


def test_an_allowed_page_may_send_and_read_also_what_is_refused() -> None:
    client = gated(cors_origin=("https://App.example.org/",), api_keys=(KEY,))
    page = {"Origin": "https://app.example.org"}
    asked = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    before = client.options("/", headers=asked)  # as browsers ask first, without any key
    assert before.status_code == 200
    assert "x-api-key" in before.headers["access-control-allow-headers"].lower()
    for headers, status in (({**page, "X-API-Key": KEY}, 200), (page, 401)):
        answer = client.post("/", headers=headers)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
        assert "access-control-allow-credentials" not in answer.headers
    other = client.post("/", headers={"Origin": "https://evil.example", "X-API-Key": KEY})
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers


def test_a_star_lets_every_page_in() -> None:
    client = gated(cors_origin=("*",))
    for origin in ("https://anywhere.example", "null"):
        assert client.post("/", headers={"Origin": origin}).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "text", ["example.org", "https://", "ftp://example.org", "https://a:b", "", "https://[x"]
)
@pytest.mark.parametrize("name", ["cors_origin", "public_url"])
def test_what_is_no_origin_is_said_at_the_start(text: str, name: str) -> None:
    if name == "public_url" and not text:
        return  # unset
    changes: dict[str, Any] = {name: (text,) if name == "cors_origin" else text}
    with pytest.raises(UsageError, match="https://example"):
        gate_of(Settings(**changes))


@given(st.text(max_size=30))
def test_no_host_or_origin_is_a_bug(text: str) -> None:
    given_bytes = text.encode("utf-8", "replace")
    headers = {b"Host": given_bytes, b"Origin": given_bytes}
    assert gated().post("/", headers=headers).status_code < 500
