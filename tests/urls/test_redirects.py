"""Where redirects may lead, how often, and what goes along with them."""

from __future__ import annotations

import pytest

from tests.urls.kit import PRIVATE, Resolver, fail, fetch, guarded, picture
from tests.urls.server import Server, redirect, reply


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: Server, status: int) -> None:
    server.on("/b", reply(body=picture()))
    body = fetch(server.on("/a", redirect("/b#part", status)))
    assert (body.data, body.final_url) == (picture(), server.url("/b") + "#part")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10])
def test_three_redirects_and_no_more(server: Server, count: int) -> None:
    for number in range(count):
        server.on(f"/{number}", redirect(f"/{number + 1}"))
    server.on(f"/{count}", reply(body=picture()))
    if count <= 3:
        assert fetch(server.url("/0")).final_url == server.url(f"/{count}")
        return
    error = fail(server.url("/0"))
    assert (error.code, error.final_url) == ("too_many_redirects", server.url("/3"))
    assert server.paths() == ["/0", "/1", "/2", "/3"]


def test_a_redirect_in_circles(server: Server) -> None:
    assert fail(server.on("/a", redirect("/a"))).code == "too_many_redirects"
    assert len(server.asked) == 4


def test_where_redirects_led_is_told_with_the_error(server: Server) -> None:
    server.on("/b", reply(404))
    error = fail(server.on("/a", redirect("/b")))
    assert (error.code, error.status, error.final_url) == ("http_error", 404, server.url("/b"))
    server.on("/c", redirect("http://169.254.169.254/"))
    error = fail(server.on("/a", redirect("/c")))
    assert (error.code, error.final_url) == ("blocked_address", server.url("/c"))
    assert "169" not in error.message


def test_https_does_not_lead_to_http(secure: Server, canary: Server) -> None:
    error = fail(secure.on("/a", redirect(canary.url("/"))))
    assert error.code == "blocked_address"


def test_http_leads_to_https(server: Server, secure: Server) -> None:
    secure.on("/b", reply(body=picture()))
    assert fetch(server.on("/a", redirect(secure.url("/b")))).final_url == secure.url("/b")


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://localhost/", "http://u:p@localhost/", "//["])
def test_redirects_to_what_is_no_web_page(server: Server, to: str) -> None:
    assert fail(server.on("/a", redirect(to))).code == "invalid_url"


def test_headers_are_for_the_first_host_alone(server: Server, secure: Server) -> None:
    resolver = Resolver(other_test=[["127.0.0.1"]])
    for asked in (server, secure):
        asked.on("/end", reply(body=picture()))
    places = [
        server.url("/end"),
        server.url("/end", "other.test"),
        server.url("/end", "127.0.0.1"),
        secure.url("/end"),
    ]
    for place in places:
        server.on("/a", redirect(place))
        fetch(server.url("/a"), guarded(PRIVATE, resolver), headers=(("Authorization", "Bearer s3cret"),))
    sent = ["authorization" in request.headers for request in server.asked if request.path == "/end"]
    assert sent == [True, False, False]
    assert "authorization" not in secure.asked[0].headers


def test_headers_are_for_the_first_host_after_a_detour_too(server: Server) -> None:
    """From the first host elsewhere and back again: they are for it, whoever sends us there."""
    server.on("/c", reply(body=picture()))
    server.on("/b", redirect(server.url("/c")))
    server.on("/a", redirect(server.url("/b", "other.test")))
    resolver = Resolver(other_test=[["127.0.0.1"]])
    fetch(server.url("/a"), guarded(PRIVATE, resolver), headers=(("X-Token", "1"),))
    assert ["x-token" in request.headers for request in server.asked] == [True, False, True]
