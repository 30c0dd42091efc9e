"""Headers, bugs, and what observers are told of a request that passed through all layers."""

from __future__ import annotations

import re

import pytest

from tests.server.gate.doors import KEY, Seen, gated

ALL = (
    "x-content-type-options", "referrer-policy", "x-frame-options", "content-security-policy",
    "cross-origin-resource-policy", "cross-origin-opener-policy", "cache-control", "x-request-id",
)  # fmt: skip


@pytest.mark.parametrize("path", ["/", "/nowhere", "/bug", "/ui/login.css", "/healthz"])
def test_every_answer_carries_the_headers(path: str) -> None:
    answer = gated().get(path)
    assert set(ALL) <= set(answer.headers)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_refusals_carry_them_too() -> None:
    for answer in (gated(api_keys=(KEY,)).get("/"), gated().get("/", headers={"Host": "evil.example"})):
        assert answer.status_code in {400, 401}
        assert set(ALL) <= set(answer.headers)


def test_the_policy_allows_no_script_but_our_files() -> None:
    policy = gated().get("/").headers["content-security-policy"]
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert "unsafe" not in policy
    assert rules["frame-ancestors"] == rules["base-uri"] == "'none'"


def test_what_an_endpoint_says_itself_stands() -> None:
    headers = gated().get("/own").headers
    assert headers.get_list("content-security-policy") == ["sandbox"]
    assert headers["cache-control"] == "private"


def test_pictures_may_be_shown_elsewhere_only_where_some_page_may_ask() -> None:
    assert gated().get("/").headers["cross-origin-resource-policy"] == "same-origin"
    allowed = gated(cors_origin=("https://app.example",)).get("/")
    assert allowed.headers["cross-origin-resource-policy"] == "cross-origin"


def test_a_bug_is_500_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    answer = gated().get("/bug", headers={"X-Request-ID": "mine"})
    assert (answer.status_code, set(answer.json())) == (500, {"detail"})
    assert "secret" not in answer.text
    assert "mine" in caplog.text  # the log says which request it was, and why
    assert "ZeroDivisionError" in caplog.text


# ---------------------------------------------------------------- who asked, and how it ended


@pytest.mark.parametrize("given_id", ["abc", "A-1_b.c", "x" * 64])
def test_a_sane_request_id_is_kept(given_id: str) -> None:
    seen = Seen()
    answer = gated(seen).get("/", headers={"X-Request-ID": given_id})
    assert answer.headers["x-request-id"] == seen.last.id == given_id


@pytest.mark.parametrize("given_id", ["", "x" * 65, "a b", '"}', "a\tb", "ü", "a,b"])
def test_any_other_is_replaced(given_id: str) -> None:
    seen = Seen()
    answer = gated(seen).get("/", headers={b"X-Request-ID": given_id.encode()})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["x-request-id"] == seen.last.id


@pytest.mark.parametrize(
    ("method", "path", "route", "status", "refused"),
    [
        ("GET", "/image/abc", "/image/{name}", 200, ""),
        ("DELETE", "/image/abc", "/image/{name}", 405, ""),
        ("GET", "/nowhere/at/all", "", 404, ""),
        ("GET", "/bug", "/bug", 500, ""),
        ("BREW", "/", "/", 405, ""),
        ("GET", "/openapi.json", "/openapi.json", 200, ""),
    ],
)
def test_observers_learn_how_it_ended(method: str, path: str, route: str, status: int, refused: str) -> None:
    seen = Seen()
    answer = gated(seen).request(method, path)
    assert seen.begun_count == len(seen.ended_ones) == 1
    last = seen.last
    assert (last.route, last.status, last.refused) == (route, status, refused)
    assert answer.status_code == status
    assert last.method == ("OTHER" if method == "BREW" else method)
    assert last.bytes_out == len(answer.content)


def test_observers_learn_why_it_was_refused_and_who_asked() -> None:
    seen = Seen()
    client = gated(seen, api_keys=(KEY,), rate_limit=2)
    client.get("/")
    client.post("/", headers={"Origin": "http://evil.example"})
    client.post("/read", headers={"X-API-Key": KEY}, content=b"12345")
    client.get("/", headers={"Host": "a@b"})
    client.get("/")
    client.get("/")
    assert [one.refused for one in seen.ended_ones] == ["key", "origin", "", "host", "key", "rate"]
    assert [bool(one.key_id) for one in seen.ended_ones] == [False, False, True, False, False, False]
    assert seen.ended_ones[2].bytes_in == 5
    assert all(KEY not in repr(one) for one in seen.ended_ones)
