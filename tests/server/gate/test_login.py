"""A person at /ui: asked once, and known by a cookie from then on."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from clipmod_cli.server.gate.authentication import Sessions
from tests.server.gate.doors import BASE, KEY, gated


def log_in(client: TestClient, key: str = KEY) -> None:
    answer = client.post("/ui/login", data={"key": key}, headers={"Origin": BASE})
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui")


def test_the_page_without_a_key_is_the_login_page() -> None:
    answer = gated(api_keys=(KEY,)).get("/ui")
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/html")
    assert 'action="/ui/login"' in answer.text
    assert 'role="alert"' not in answer.text


def test_the_login_page_needs_no_script_and_labels_its_field() -> None:
    text = gated(api_keys=(KEY,)).get("/ui/login").text
    assert not re.search(r"<script|<style|\son\w+=|\sstyle=|javascript:", text)
    (field,) = re.findall(r'<input id="(\w+)"', text)
    assert f'<label for="{field}">' in text
    assert 'lang="en"' in text


def test_a_key_given_once_opens_everything_a_key_opens() -> None:
    client = gated(api_keys=(KEY,))
    log_in(client)
    ids = {client.get(path).text for path in ("/ui", "/ui/app.js", "/image/x", "/")}
    assert len(ids) == 1
    assert ids == {client.get("/", headers={"X-API-Key": KEY}).text}


def test_the_cookie_cannot_be_read_sent_from_elsewhere_or_guessed() -> None:
    def cookie(public_url: str | None = None) -> str:
        answer = gated(api_keys=(KEY,), public_url=public_url).post("/ui/login", data={"key": KEY})
        return answer.headers["set-cookie"]

    plain, behind_tls = cookie(), cookie("https://clipmod.example.org")
    for one in (plain, behind_tls):
        assert "HttpOnly" in one
        assert "samesite=strict" in one.lower()
        assert "Path=/" in one
        assert KEY not in one
    assert "Secure" in behind_tls
    assert "Secure" not in plain
    values = [re.search(r"clipmod_session=([\w-]+)", one) for one in (plain, behind_tls)]
    assert len({match[1] for match in values if match}) == 2
    assert all(match and len(match[1]) >= 22 for match in values)  # 128 bits


@pytest.mark.parametrize("key", ["", "wrong", KEY + "x", "<script>alert(1)</script>"])
def test_a_wrong_key_is_told_so_and_sets_nothing(key: str) -> None:
    client = gated(api_keys=(KEY,))
    answer = client.post("/ui/login", data={"key": key})
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert "alert(1)" not in answer.text
    assert "set-cookie" not in answer.headers
    assert client.get("/").status_code == 401


def test_leaving_ends_the_session_itself() -> None:
    client = gated(api_keys=(KEY,))
    log_in(client)
    kept = client.cookies["clipmod_session"]
    assert client.post("/ui/logout").status_code == 303
    client.cookies.set("clipmod_session", kept)
    assert client.get("/").status_code == 401


def test_a_wrong_key_in_a_header_is_not_made_good_by_the_cookie() -> None:
    client = gated(api_keys=(KEY,))
    log_in(client)
    assert client.get("/", headers={"X-API-Key": "wrong"}).status_code == 401


def test_a_login_from_a_page_elsewhere_is_refused() -> None:
    answer = gated(api_keys=(KEY,)).post(
        "/ui/login", data={"key": KEY}, headers={"Origin": "http://evil.example"}
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_login_larger_than_any_key_is_refused() -> None:
    assert gated(api_keys=(KEY,)).post("/ui/login", data={"key": "x" * 5000}).status_code == 413


def test_without_keys_there_is_nothing_to_log_in_to() -> None:
    client = gated()
    assert client.get("/ui").text == "in: anybody"
    assert client.get("/ui/login").headers["location"] == "/ui"
    answer = client.post("/ui/login", data={"key": "x"})
    assert answer.headers["location"] == "/ui"
    assert "set-cookie" not in answer.headers


def test_sessions_end_by_themselves_and_are_bounded() -> None:
    now = [0.0]
    sessions = Sessions(clock=lambda: now[0], life_s=10, most=3)
    first = sessions.open("a")
    now[0] = 9.9
    assert sessions.find(first) == "a"
    now[0] = 10.0
    assert sessions.find(first) == ""
    four = [sessions.open(name) for name in "wxyz"]
    assert [sessions.find(one) for one in four] == ["", "x", "y", "z"]
    sessions.close(four[1])
    assert [sessions.find(one) for one in four] == ["", "", "y", "z"]
    assert sessions.find("never\udcff") == ""
