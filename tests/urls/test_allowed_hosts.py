"""Hosts of the operator's own: reached by their name and port alone, whatever a URL or a redirect says."""

from __future__ import annotations

import pytest

from clipmod_cli.errors import SettingsError
from clipmod_cli.sources.web.addresses import AddressRules, FetchRules, HostAndPort, allowed_hosts
from clipmod_cli.sources.web.errors import FetchError
from tests.urls.kit import PUBLIC, Resolver, fetch_all, guarded, picture
from tests.urls.server import Server, redirect, reply

METADATA = "169.254.169.254"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("images.example.org:8080", {("images.example.org", 8080)}),
        (" Images.Example.org. ", {("images.example.org", 80), ("images.example.org", 443)}),
        ("10.0.0.5:80", {("10.0.0.5", 80)}),
        ("[FD00::1]:8080", {("fd00::1", 8080)}),
        ("[::ffff:10.0.0.5]:1", {("10.0.0.5", 1)}),
        ("müller.local:81", {("xn--mller-kva.local", 81)}),
    ],
)
def test_what_an_operator_may_write(text: str, found: set[HostAndPort]) -> None:
    assert allowed_hosts([text]) == found


@pytest.mark.parametrize(
    "text",
    ["", ":80", "host:0", "host:65536", "host:x", "host:80:81", "http://host", "host/path", "user@host", "*",
     "*.example.org", "10.0.0.0/8", "::1", "fd00::1:80", "a b", "a,b", "[::1", "host?x", "host#x"],
)  # fmt: skip
def test_what_is_no_host_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="--allow-host must be a host") as caught:
        allowed_hosts([text])
    assert repr(text) in str(caught.value)


def codes(urls: list[str], hosts: set[HostAndPort], resolver: Resolver) -> list[str | None]:
    """Return the error code of each URL where these hosts are allowed; None if it was downloaded."""
    access = AddressRules(hosts=frozenset(hosts))
    outcomes = fetch_all(urls, FetchRules(access=access), guarded(access, resolver))
    return [one.code if isinstance(one, FetchError) else None for one in outcomes]


def test_an_allowed_name_is_reached_at_its_port_and_by_no_other_name(server: Server, canary: Server) -> None:
    names = Resolver(own_test=[["127.0.0.1"]], own_test_=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    for path in ("/a", "/b"):
        server.on(path, reply(body=picture()))
    urls = [
        f"http://own.test:{server.port}/a",
        f"http://OWN.test.:{server.port}/b",
        f"http://own.test:{canary.port}/a",
        f"http://other.test:{server.port}/a",
        f"http://127.0.0.1:{server.port}/a",
    ]
    assert codes(urls, {("own.test", server.port)}, names) == [None, None, *["blocked_address"] * 3]
    assert server.paths() == ["/a", "/b"]
    assert canary.asked == []


def test_a_redirect_to_another_private_address_is_refused(server: Server, canary: Server) -> None:
    names = Resolver(own_test=[["127.0.0.1"]])
    targets = (f"http://127.0.0.1:{canary.port}/", f"http://own.test:{canary.port}/", f"http://{METADATA}/")
    urls = [
        server.on(f"/{number}", redirect(target)).replace("localhost", "own.test")
        for number, target in enumerate(targets)
    ]
    assert codes(urls, {("own.test", server.port)}, names) == ["blocked_address"] * 3
    assert len(server.asked) == 3
    assert canary.asked == []


def test_an_allowed_address_is_that_address_alone(server: Server) -> None:
    server.on("/a", reply(body=picture()))
    names = Resolver(own_test=[["127.0.0.1"]])
    urls = [f"http://{host}:{server.port}/a" for host in ("127.0.0.1", "127.0.0.2", "own.test", "127.1")]
    assert codes(urls, {("127.0.0.1", server.port)}, names) == [None, *["blocked_address"] * 3]


@pytest.mark.parametrize("answers", [[METADATA], ["10.0.0.5", METADATA], ["100.100.100.200"], ["0.0.0.0"]])  # noqa: S104
def test_an_allowed_name_never_leads_to_a_metadata_service(answers: list[str]) -> None:
    names = Resolver(own_test=[answers])
    assert codes(["http://own.test/"], {("own.test", 80)}, names) == ["blocked_address"]


def test_such_an_address_has_to_be_named_itself() -> None:
    rules = AddressRules(hosts=frozenset({(METADATA, 80), ("own.test", 80)}))
    assert rules.of_connection(METADATA, 80).allows(METADATA)
    assert not rules.of_connection(METADATA, 443).allows(METADATA)
    assert not rules.of_connection("own.test", 80).allows(METADATA)
    assert rules.of_connection("own.test", 80).allows("10.0.0.5")
    assert not rules.of_connection("other.test", 80).allows("10.0.0.5")
    assert rules.of_connection("other.test", 80).allows(PUBLIC)
