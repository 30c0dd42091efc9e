"""Many URLs: one result each, whatever happens; politely, with bounded memory, and ending when told to."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmod_cli.errors import UsageError
from clipmod_cli.sources.web import downloads as urls_module
from clipmod_cli.sources.web import responses
from clipmod_cli.sources.web.addresses import FetchRules
from clipmod_cli.sources.web.downloads import DownloadPacing, Downloads
from clipmod_cli.sources.web.fetch import Fetcher
from clipmod_cli.sources.web.hosts import MAX_PAUSES, DownloadBudget
from clipmod_cli.types import Failure, Item
from tests.urls.kit import PRIVATE, Resolver, guarded, picture, trusting
from tests.urls.server import HELD_S, Gauge, Server, after, broken, raw, redirect, reply, serving
from tests.urls.test_fetch import MP4

QUICK = DownloadPacing(backoff_s=0.01)


def items(urls: Iterable[str]) -> Iterator[Item]:
    """Yield an item for each URL."""
    return (Item(source=url, index=index) for index, url in enumerate(urls))


def downloads(
    given: Iterable[Item | Failure], pace: DownloadPacing = QUICK, *names: str, **rules: Any
) -> Downloads:
    """Return the downloads of items; `names` resolve to loopback."""
    resolver = Resolver(**{name: [["127.0.0.1"]] for name in names})
    make = partial(Fetcher, backend=guarded(PRIVATE, resolver), ssl_context=trusting())
    return Downloads(given, FetchRules(**{"access": PRIVATE, **rules}), pace, make_fetcher=make)


def download(
    urls: Iterable[str], pace: DownloadPacing = QUICK, *names: str, **rules: Any
) -> list[Item | Failure]:
    """Return all results."""
    return list(downloads(items(urls), pace, *names, **rules))


def code_of(result: Item | Failure) -> str:
    """Return what became of a URL."""
    return result.code if isinstance(result, Failure) else "ok"


def item_of(result: Item | Failure) -> Item:
    """Return whose result it is."""
    return result.item if isinstance(result, Failure) else result


FAULTS = {
    "/ok": (reply(body=picture()), "ok"),
    "/gone": (reply(404), "http_error"),
    "/ill": (reply(500), "http_error"),
    "/busy": (reply(429), "http_error"),
    "/page": (reply(body=b"<html>"), "not_an_image"),
    "/empty": (reply(), "empty_file"),
    "/reset": (broken(b"HTTP/1.1 200 OK\r\n\r\n" + picture()[:50]), "read_error"),
    "/nonsense": (raw(b"\0\r\n\r\n"), "read_error"),
    "/round": (redirect("/round"), "too_many_redirects"),
    "/on": (redirect("/ok"), "ok"),
    "/inside": (redirect("http://169.254.169.254/"), "blocked_address"),
    "/closes": (reply(body=picture(), connection="close"), "ok"),
}
ELSEWHERE = {
    "file:///etc/passwd": "invalid_url",
    "": "invalid_url",
    "http://127.0.0.1:1/": "connect_error",
    "http://169.254.169.254/": "blocked_address",
    "http://\udcff/": "invalid_url",
}


@pytest.fixture(scope="module")
def faulty() -> Iterator[Server]:
    """A server with something wrong on every path but a few."""
    with serving() as server:
        for path, (answer, _) in FAULTS.items():
            server.on(path, answer)
        yield server


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given_=st.lists(st.sampled_from([*FAULTS, *ELSEWHERE]), max_size=25),
    concurrency=st.integers(1, 8),
    per_host=st.integers(1, 8),
    retries=st.integers(0, 1),
)
def test_law_one_url_one_result(
    given_: list[str], concurrency: int, per_host: int, retries: int, faulty: Server
) -> None:
    pace = DownloadPacing(concurrency=concurrency, per_host=per_host, retries=retries, backoff_s=0.001)
    urls = [faulty.url(one) if one in FAULTS else one for one in given_]
    results = download(urls, pace)
    assert sorted(item_of(result).index for result in results) == list(range(len(urls)))
    for result in results:
        item = item_of(result)
        name = given_[item.index]
        assert item.source == urls[item.index]
        assert code_of(result) == (FAULTS[name][1] if name in FAULTS else ELSEWHERE[name])
        if isinstance(result, Item):
            assert result.data == picture()
            assert result.final_url == (faulty.url("/ok") if name == "/on" else None)


def test_no_urls_are_fine() -> None:
    assert download([]) == []


def test_failures_of_the_list_pass_through(server: Server) -> None:
    failure = Failure(item=Item(source="x", index=0), stage="source", code="read_error", message="x")
    picked = Item(source=server.on("/a", reply(body=picture())), index=1)
    results = list(downloads([failure, picked]))
    assert failure in results
    assert Counter(map(code_of, results)) == {"read_error": 1, "ok": 1}


def test_results_come_as_they_complete(server: Server) -> None:
    free = threading.Event()
    slow = server.on("/slow", after(free, reply(body=picture())))
    quick = server.on("/quick", reply(body=picture()))
    results = iter(downloads(items([slow, quick, quick])))
    first = [item_of(next(results)).index for _ in range(2)]
    free.set()
    assert sorted(first) == [1, 2]
    assert [item_of(result).index for result in results] == [0]


def test_a_slow_list_gets_its_answers_promptly(server: Server) -> None:
    url, answered = server.on("/a", reply(body=picture())), threading.Event()

    def listed() -> Iterator[Item]:
        yield Item(source=url, index=0)
        assert answered.wait(20)  # what was read is not held back for what comes later
        yield Item(source=url, index=1)

    results = iter(downloads(listed()))
    assert code_of(next(results)) == "ok"
    answered.set()
    assert code_of(next(results)) == "ok"


def test_an_error_of_the_list_comes_after_all_its_results(server: Server) -> None:
    url = server.on("/a", reply(body=picture()))

    def listed() -> Iterator[Item]:
        yield from items([url] * 5)
        raise UsageError("the list ends in the middle")

    seen: list[Item | Failure] = []
    with pytest.raises(UsageError, match="in the middle"):
        seen.extend(downloads(listed()))
    assert [code_of(result) for result in seen] == ["ok"] * 5


@pytest.mark.parametrize(("concurrency", "per_host"), [(5, 2), (1, 4), (8, 1), (3, 3)])
def test_limits_of_concurrency_hold(server: Server, concurrency: int, per_host: int) -> None:
    every, one = Gauge(), Gauge()
    server.on("/a", every.counting(reply(body=picture())))
    server.on("/b", every.counting(one.counting(reply(body=picture()))))
    names = {"one.test": "/b", "two.test": "/a", "six.test": "/a"}
    urls = [server.url(path, name) for name, path in names.items() for _ in range(8)]
    pace = DownloadPacing(concurrency=concurrency, per_host=per_host)
    assert Counter(map(code_of, download(urls, pace, "one_test", "two_test", "six_test"))) == {"ok": 24}
    assert 1 <= every.most <= concurrency
    assert 1 <= one.most <= per_host


def test_a_slow_host_holds_up_nobody_else(server: Server) -> None:
    free = threading.Event()
    server.on("/slow", after(free, reply(body=picture())))
    server.on("/quick", reply(body=picture()))
    urls = [server.url("/slow", "slow.test")] * 200 + [server.url("/quick", "quick.test")] * 20
    results = iter(downloads(items(urls), DownloadPacing(concurrency=8), "slow_test", "quick_test"))
    assert sorted(item_of(next(results)).index for _ in range(20)) == list(range(200, 220))
    free.set()
    assert Counter(map(code_of, results)) == {"ok": 200}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_refusals_that_pass_are_tried_again(server: Server, status: int) -> None:
    url = server.on("/a", reply(status), reply(status), reply(body=picture()))
    assert [code_of(result) for result in download([url])] == ["ok"]
    assert len(server.asked) == 3


def test_the_time_of_a_url_covers_its_retries(server: Server) -> None:
    url = server.on("/a", reply(503))
    (result,) = download([url], DownloadPacing(backoff_s=60.0, url_s=0.5))
    assert code_of(result) == "timeout"
    assert len(server.asked) == 1


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (1, 2), (4, 5)])
def test_retries_end(server: Server, retries: int, asked: int) -> None:
    url = server.on("/a", reply(503))
    (result,) = download([url], DownloadPacing(retries=retries, backoff_s=0.001))
    assert isinstance(result, Failure)
    assert (result.code, result.http_status, result.retryable) == ("http_error", 503, True)
    assert len(server.asked) == asked


def test_what_will_not_pass_is_not_tried_again(server: Server) -> None:
    urls = [
        server.on(path, answer)
        for path, (answer, _) in FAULTS.items()
        if path in ("/gone", "/page", "/reset")
    ]
    download(urls)
    assert len(server.asked) == 3


def test_retry_after_is_waited_for_and_pauses_the_whole_host(server: Server) -> None:
    asked: list[tuple[str, float]] = []

    def told(name: str, then: Callable[[Any], bool]) -> Callable[[Any], bool]:
        def answer(connection: Any) -> bool:
            asked.append((name, time.monotonic()))
            return then(connection)

        return answer

    busy = server.on("/busy", told("busy", reply(429, retry_after="2")), told("again", reply(body=picture())))
    other = server.on("/other", told("other", reply(body=picture())))
    server.on("/elsewhere", told("elsewhere", reply(body=picture())))
    elsewhere = server.url("/elsewhere", "elsewhere.test")
    results = download([busy, *[other] * 3, elsewhere], DownloadPacing(per_host=1), "elsewhere_test")
    assert [code_of(result) for result in results] == ["ok"] * 5
    names = [name for name, _ in asked]
    assert sorted(names[:2]) == ["busy", "elsewhere"]  # the other host is not paused
    assert sorted(names[2:]) == ["again", "other", "other", "other"]
    assert min(at for _, at in asked[2:]) - dict(asked)["busy"] >= 1.99  # all else of this one is


def test_a_host_that_always_says_later_does_not_hold_the_run_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "MAX_RETRY_AFTER_S", 0.02)
    url = server.on("/a", reply(429, retry_after="9"))
    results = download([url] * 60, DownloadPacing(per_host=1))
    assert Counter(map(code_of, results)) == {"http_error": 60}
    assert {result.http_status for result in results if isinstance(result, Failure)} == {429}
    assert len(server.asked) <= 2 * MAX_PAUSES
    assert all(result.retryable for result in results if isinstance(result, Failure))


def test_redirects_wait_for_their_hosts_turn(server: Server) -> None:
    gauge = Gauge()
    with serving() as end:
        server.on("/r", redirect(end.on("/end", gauge.counting(reply(body=picture())))))
        urls = [server.url("/r", name) for name in ("one.test", "two.test", "six.test") for _ in range(4)]
        results = download(urls, DownloadPacing(per_host=2), "one_test", "two_test", "six_test")
    assert Counter(map(code_of, results)) == {"ok": 12}
    assert gauge.most <= 2


def test_the_list_is_not_read_far_ahead(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls_module, "WINDOW", 50)
    url, read = server.on("/a", reply(body=picture())), Counter[str]()

    def listed() -> Iterator[Item]:
        for item in items([url] * 500):
            read["urls"] += 1
            yield item

    for taken, _ in enumerate(downloads(listed()), 1):
        assert read["urls"] <= taken + 51


def test_nothing_is_downloaded_that_nobody_takes(server: Server) -> None:
    """A stalled pipeline stops the downloads: 64 that are finished, and 8 that were on their way."""
    url = server.on("/a", reply(body=picture()))
    results = iter(downloads(items([url] * 500), DownloadPacing(concurrency=8, per_host=8)))
    next(results)
    settled = -1
    while settled != len(server.asked):
        settled = len(server.asked)
        time.sleep(0.3)
    assert settled <= urls_module.FINISHED_AHEAD + 8 + 1
    assert sum(1 for _ in results) == 499


def test_bytes_in_flight_are_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MEMORY_BYTES", 0)  # then there is room for two of the largest
    size = 100_000
    held: list[int] = []
    free = threading.Event()
    url = server.on("/a", after(free, reply(body=picture().ljust(size, b"\0"))))
    line = downloads(items([url] * 30), DownloadPacing(per_host=30), max_bytes=size)
    real_take = DownloadBudget.acquire

    async def take(self: DownloadBudget, amount: int) -> None:
        await real_take(self, amount)
        held.append(self._free)

    monkeypatch.setattr(DownloadBudget, "acquire", take)
    free.set()
    assert Counter(map(code_of, line)) == {"ok": 30}
    assert min(held) == 0
    memory = line._fetcher.bodies.memory
    assert memory._free == memory.total == 2 * size


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_leaving_early_ends_everything(server: Server, taken: int) -> None:
    free = threading.Event()
    quick, stuck = server.on("/a", reply(body=picture())), server.on("/s", after(free, reply()))
    results = iter(downloads(items([quick] * 3 + [stuck] * 20)))
    for _ in range(taken):
        next(results)
    results.close()  # type: ignore[attr-defined]
    until = time.monotonic() + HELD_S / 2
    while any(thread.name == "clipmod-downloads" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.05)
    free.set()


def test_closing_from_elsewhere_wakes_who_waits(server: Server) -> None:
    free = threading.Event()
    stuck = server.on("/s", after(free, reply()))
    line = downloads(items([stuck] * 5))
    threading.Timer(0.2, line.close).start()
    assert list(line) == []
    line.close()
    free.set()


def test_closing_before_the_start_or_a_list_that_never_ends(server: Server) -> None:
    downloads(items([])).close()
    url, over = server.on("/a", reply(body=picture())), threading.Event()

    def listed() -> Iterator[Item]:
        yield from items([url])
        over.wait(20)

    results = iter(downloads(listed()))
    next(results)
    results.close()  # type: ignore[attr-defined]
    over.set()


def test_what_cannot_begin_is_told(server: Server) -> None:
    def make(*_: object, **__: object) -> Fetcher:
        raise RuntimeError("no certificates")

    with pytest.raises(RuntimeError, match="no certificates"):
        list(Downloads(items([server.url("/a")]), FetchRules(), make_fetcher=make))


def test_a_bug_costs_one_url(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Fetcher.fetch

    async def fetch(self: Fetcher, source: str, turn: Any) -> Any:
        if source.endswith("?1"):
            raise ZeroDivisionError
        if source.endswith("?2"):
            raise asyncio.CancelledError
        return await real(self, source, turn)

    monkeypatch.setattr(Fetcher, "fetch", fetch)
    url = server.on("/a", reply(body=picture()))
    results = download([f"{url}?{number}" for number in range(4)])
    assert {item_of(r).index: code_of(r) for r in results} == {
        0: "ok", 1: "internal_error", 2: "internal_error", 3: "ok"
    }  # fmt: skip


def test_videos_come_as_files(server: Server) -> None:
    (result,) = download([server.on("/a", reply(body=MP4))])
    assert isinstance(result, Item)
    assert result.data is None
    assert result.spilled is not None
    assert Path(result.spilled).read_bytes() == MP4
    Path(result.spilled).unlink()


def test_no_connection_is_left_open(secure: Server) -> None:
    """Sockets that nobody closed would be warned of here, and warnings are errors."""
    secure.on("/a", reply(body=picture()))
    secure.on("/b", raw(b"\0"))
    download([secure.url("/a"), secure.url("/b"), secure.url("/c"), "https://127.0.0.1:1/"])
    gc.collect()
