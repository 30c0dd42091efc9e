"""No connection is ever made but to an address that was checked, however it is spelled or reached."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpcore2
import pytest

from clipmod_cli.sources.web.addresses import AddressRules, FetchRules
from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.sources.web.guard import MAX_FAILURES, BoundedDict, GuardedBackend, HostResolver
from tests.urls.kit import PRIVATE, PUBLIC, Detour, Resolver, fetch, fetch_all, guarded, picture
from tests.urls.server import Server, redirect, reply

SPELLINGS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0X7F.1", "0177.0.0.1",
    "017700000001", "0177.1", "0", "0.0.0.0",  # noqa: S104
    "127.255.255.254", "127。0。0。1", "①②⑦.⓪.⓪.①", "localhost",
    "LOCALHOST", "localhost.", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[::127.0.0.1]", "[::7f00:1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[2a00:1450::5efe:127.0.0.1]", "[2a00:1450::200:5efe:7f00:1]",
    "[fe80::1]", "[fe80::1%25lo]", "[::1%25lo]", "[fd00::1]", "[ff02::1]", "[2001:db8::1]", "[3fff::1]",
    "169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "168.63.129.16", "10.0.0.1", "172.16.0.1",
    "192.168.0.1", "100.64.0.1", "192.0.0.8", "192.88.99.1", "198.18.0.1", "224.0.0.1", "255.255.255.255",
    "mixed.test", "mixed6.test", "inside.test", "%31%32%37.0.0.1", "127.0.0.1.", "user@127.0.0.1",
]  # fmt: skip


def names() -> Resolver:
    """Return a resolver: one good name, and several that are bad in part or altogether."""
    return Resolver(
        public_test=[[PUBLIC]],
        mixed_test=[[PUBLIC, "127.0.0.1"]],
        mixed6_test=[["2606:4700::1", "::1", PUBLIC]],
        inside_test=[["10.1.2.3"]],
    )


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_private_addresses_are_refused_at_once_and_after_redirects(
    spelling: str, server: Server, canary: Server
) -> None:
    access = AddressRules(
        ports=frozenset({80, 443, canary.port})
    )  # so that it is the address that is refused
    target = f"http://{spelling}:{canary.port}/secret"
    server.on("/one", redirect(target))
    server.on("/two", redirect("/one"))
    detour = Detour(server.port)
    outcomes = fetch_all(
        [target, "http://public.test/one", "http://public.test/two"],
        FetchRules(access=access),
        guarded(access, names(), detour),
    )
    for outcome in outcomes:
        assert isinstance(outcome, FetchError)
        assert outcome.code in ("blocked_address", "invalid_url", "dns_error")
        assert not outcome.again
        assert "10.1.2.3" not in outcome.message
    assert set(detour.connected) == {PUBLIC}
    assert server.paths() == ["/one", "/two", "/one"]


def test_the_canary_sings_where_private_addresses_are_opened(server: Server) -> None:
    """What the test above would see if the guard let anything through."""
    server.on("/secret", reply(body=picture()))
    server.on("/one", redirect(f"http://127.0.0.1:{server.port}/secret"))
    assert fetch(server.url("/one")).data == picture()
    assert server.paths() == ["/one", "/secret"]


def test_a_name_that_answers_differently_the_second_time_gains_nothing(
    server: Server, canary: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmod_cli.sources.web.guard.CACHE_S", -1.0)  # so that it is asked each time
    for path in ("/a", "/b"):
        server.on(path, reply(body=picture(), connection="close"))
    resolver = Resolver(rebinding_test=[[PUBLIC], ["127.0.0.1"]])
    access = AddressRules(ports=frozenset({80, canary.port}))
    detour = Detour(server.port)
    first, second = fetch_all(
        [f"http://rebinding.test:{canary.port}/a", f"http://rebinding.test:{canary.port}/b"],
        FetchRules(access=access),
        guarded(access, resolver, detour),
    )
    assert not isinstance(first, FetchError)
    assert isinstance(second, FetchError)
    assert second.code == "blocked_address"
    assert detour.connected == [PUBLIC]
    assert resolver.asked == ["rebinding.test"] * 2


def test_a_name_is_resolved_once_for_each_connection(server: Server) -> None:
    """A second resolution after the check would connect to an address that was not checked."""
    server.on("/a", reply(body=picture()))
    resolver = Resolver(rebinding_test=[["127.0.0.1"], ["203.0.113.9"]])
    body = fetch(f"http://rebinding.test:{server.port}/a", guarded(PRIVATE, resolver))
    assert body.data == picture()
    assert resolver.asked == ["rebinding.test"]
    assert server.asked[0].headers["host"] == f"rebinding.test:{server.port}"


def test_tls_is_made_with_the_name_and_not_with_the_address(secure: Server) -> None:
    secure.on("/a", reply(body=picture()))
    resolver = Resolver(public_test=[["127.0.0.1"]], wrong_test=[["127.0.0.1"]])
    backend = guarded(PRIVATE, resolver)
    right, wrong = fetch_all(
        [f"https://public.test:{secure.port}/a", f"https://wrong.test:{secure.port}/a"], backend=backend
    )
    assert not isinstance(right, FetchError)
    assert isinstance(wrong, FetchError)
    assert (wrong.code, wrong.again) == ("tls_error", False)


@pytest.mark.parametrize(
    ("port", "reached"), [(80, True), (443, True), (22, False), (8080, True), (25, False)]
)
def test_ports(port: int, reached: bool, server: Server) -> None:
    server.on("/a", reply(body=picture()))
    access, detour = AddressRules(ports=frozenset({80, 443, 8080})), Detour(server.port)
    (outcome,) = fetch_all(
        [f"http://public.test:{port}/a"], FetchRules(access=access), guarded(access, names(), detour)
    )
    assert bool(detour.connected) == reached
    assert getattr(outcome, "code", None) == (None if reached else "blocked_address")


def test_the_environment_names_no_proxy(
    server: Server, canary: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, canary.url(""))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert fetch(server.on("/a", reply(body=picture()))).data == picture()


class _Watch:
    """What Python tells of connections; its hooks cannot be taken away again, so this one is silenced."""

    seen: list[tuple[str, object]] | None = None
    hooked = False

    @classmethod
    def hook(cls, event: str, args: tuple[object, ...]) -> None:
        if cls.seen is not None and event in ("socket.connect", "socket.getaddrinfo"):
            cls.seen.append((event, args[1] if event == "socket.connect" else args[0]))


@contextmanager
def watching() -> Iterator[list[tuple[str, object]]]:
    """Give all that this process connects to and resolves while the context lasts."""
    if not _Watch.hooked:
        sys.addaudithook(_Watch.hook)
        _Watch.hooked = True
    seen: list[tuple[str, object]] = []
    _Watch.seen = seen
    try:
        yield seen
    finally:
        _Watch.seen = None


def test_every_connection_of_the_process_was_allowed_before(
    server: Server, secure: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if anything connects past the guard: Python itself tells of all connections."""
    allowed: list[str] = []
    judge = AddressRules.allows

    def spy(self: AddressRules, text: str) -> bool:
        allowed.append(text)
        return judge(self, text)

    monkeypatch.setattr(AddressRules, "allows", spy)
    server.on("/a", reply(500), reply(body=picture(), connection="close"))
    server.on("/r", redirect(secure.on("/b", reply(body=picture()))))
    with watching() as seen:
        fetch_all([server.url("/a"), server.url("/a"), server.url("/r", "127.1"), secure.url("/b")])
    connects = [place[0] for event, place in seen if event == "socket.connect" and isinstance(place, tuple)]
    assert len(connects) >= 3
    assert set(connects) <= set(allowed)
    assert {name for event, name in seen if event == "socket.getaddrinfo"} <= {"localhost", "127.1"}


@pytest.mark.parametrize("kind", ["http", "https"])
def test_a_guard_that_refuses_everything_stops_everything(
    kind: str, server: Server, secure: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if the guard is not asked at all."""
    asked = secure if kind == "https" else server
    asked.on("/a", reply(body=picture()))
    monkeypatch.setattr(AddressRules, "allows", lambda *_: False)
    outcomes = fetch_all([asked.url("/a"), asked.url("/a", "127.0.0.1"), asked.url("/a", "[::1]")])
    assert [getattr(outcome, "code", None) for outcome in outcomes] == ["blocked_address"] * 3
    assert asked.asked == []


def test_local_sockets_are_refused() -> None:
    with pytest.raises(FetchError) as caught:
        asyncio.run(GuardedBackend(PRIVATE).connect_unix_socket("/run/x"))
    assert caught.value.code == "blocked_address"


@pytest.mark.parametrize(
    ("error", "code", "again"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), "dns_error", False),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "dns_error", True),
        (OSError("x"), "dns_error", False),
        (UnicodeError("x"), "invalid_url", False),
    ],
)
def test_names_that_do_not_resolve(error: Exception, code: str, again: bool) -> None:
    def resolve(_: str) -> list[str]:
        raise error

    (outcome,) = fetch_all(
        ["http://nowhere.test/"], backend=GuardedBackend(PRIVATE, resolver=HostResolver(resolve))
    )
    assert isinstance(outcome, FetchError)
    assert (outcome.code, outcome.again) == (code, again)


def test_a_name_without_an_address() -> None:
    (outcome,) = fetch_all(["http://nothing.test/"], backend=guarded(PRIVATE, Resolver(nothing_test=[[]])))
    assert getattr(outcome, "code", None) == "dns_error"


def test_the_next_address_is_tried_when_one_does_not_answer(server: Server) -> None:
    server.on("/a", reply(body=picture()))
    resolver = Resolver(two_test=[["::1", "127.0.0.1"]])  # the server listens on the second alone
    assert fetch(f"http://two.test:{server.port}/a", guarded(PRIVATE, resolver)).data == picture()


def test_a_resolver_that_hangs_costs_the_time_for_connecting_and_no_more(server: Server) -> None:
    over = threading.Event()

    def resolve(_: str) -> list[str]:
        over.wait(20)
        return ["127.0.0.1"]

    try:
        with pytest.raises(FetchError) as caught:
            fetch("http://slow.test/", GuardedBackend(PRIVATE, resolver=HostResolver(resolve)), connect_s=0.2)
    finally:
        over.set()
    assert caught.value.code == "timeout"


def test_a_silent_host_is_left_alone_after_a_while() -> None:
    refused = itertools.count()

    class Refusing(httpcore2.AsyncNetworkBackend):
        async def connect_tcp(self, *_: object, **__: object) -> httpcore2.AsyncNetworkStream:
            next(refused)
            raise httpcore2.ConnectError

    resolver = Resolver(gone_test=[[PUBLIC]], other_test=[[PUBLIC]])
    urls = ["http://gone.test/"] * (MAX_FAILURES + 5) + ["http://other.test/", "http://gone.test:8080/"]
    outcomes = fetch_all(urls, backend=guarded(PRIVATE, resolver, Refusing()))
    assert [getattr(outcome, "code", None) for outcome in outcomes] == ["connect_error"] * len(urls)
    assert next(refused) == MAX_FAILURES + 2
    assert [getattr(outcome, "again", None) for outcome in outcomes[:-2]] == [True] * MAX_FAILURES + [
        False
    ] * 5


def test_the_memory_of_hosts_is_bounded() -> None:
    memory: BoundedDict[int, int] = BoundedDict(3)
    for number in range(10):
        memory[number] = number
    assert [memory.get(number) for number in range(10)] == [None] * 7 + [7, 8, 9]
    del memory[8]
    memory[7] = 1
    assert [memory.get(number) for number in (7, 8, 9)] == [1, None, 9]


def test_look_ups_of_one_name_at_once_are_one() -> None:
    resolver = Resolver(public_test=[[PUBLIC]])

    async def ask() -> list[object]:
        known = HostResolver(resolver)
        return list(await asyncio.gather(*(known.find("public.test") for _ in range(10))))

    assert asyncio.run(ask()) == [(PUBLIC,)] * 10
    assert resolver.asked == ["public.test"]


@pytest.mark.parametrize(("number", "asked"), [(socket.EAI_NONAME, 1), (socket.EAI_AGAIN, 2)])
def test_a_failed_look_up_is_remembered_unless_it_may_pass(number: int, asked: int) -> None:
    count = itertools.count()

    def resolve(_: str) -> list[str]:
        next(count)
        raise socket.gaierror(number, "x")

    async def ask() -> None:
        known = HostResolver(resolve)
        for _ in range(2):
            with pytest.raises(socket.gaierror):
                await known.find("public.test")

    asyncio.run(ask())
    assert next(count) == asked
