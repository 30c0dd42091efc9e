"""Many URLs → Items with their bytes, and Failures, in the order in which they complete.

An event loop in a thread of its own downloads while the consumer's thread judges. Every URL gives one
result. A bounded window of the list is read ahead, so that the URLs of a slow host do not hold up others.
How one URL is downloaded is left to `clipmod_cli.sources.web.fetch`.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from clipmod_cli.flow import StreamEnd, feed
from clipmod_cli.sources.base import failure
from clipmod_cli.sources.web.addresses import FetchRules
from clipmod_cli.sources.web.errors import FetchError, translate
from clipmod_cli.sources.web.fetch import Fetcher
from clipmod_cli.sources.web.hosts import HostScheduler
from clipmod_cli.sources.web.responses import ByteCounter, DownloadedBody
from clipmod_cli.types import Failure, Item

WINDOW = 10_000
"""URLs that are read ahead of the results taken: a list sorted by host still has other hosts to ask."""

FINISHED_AHEAD = 64
"""Pictures that may wait to be taken before no new download begins: judging takes longer than downloading."""

CLOSE_S = 2.0
"""How long `close` waits for connections to end; after that they end with the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadPacing:
    """How many downloads run at once, and how often one is retried.

    Attributes:
        concurrency: in all.
        per_host: from one host.
        retries: after 429, 5xx or a failed connection.
        backoff_s: mean wait before the first retry; it doubles with each.
    """

    concurrency: int = 64
    per_host: int = 4
    retries: int = 2
    backoff_s: float = 1.0


@dataclass(frozen=True, slots=True)
class _Done:
    """One result, and the body whose bytes are released when it is taken."""

    result: Item | Failure
    body: DownloadedBody | None = None


class Downloads:
    """The results of downloading `items`, to be iterated once, by one thread.

    `close` may be called by any thread at any time; it ends the iteration.
    """

    def __init__(
        self,
        items: Iterable[Item | Failure],
        rules: FetchRules,
        pacing: DownloadPacing | None = None,
        *,
        traffic: ByteCounter | None = None,
        make_fetcher: Callable[..., Fetcher] = Fetcher,
    ) -> None:
        """Start nothing yet.

        Args:
            items: whose `source` is a URL; read in a thread of their own. Failures pass through. What
                they raise is raised by the iteration, after all results before it.
            rules: allowed addresses and limits.
            pacing: limits of concurrency, and retries.
            traffic: counts the bytes received.
            make_fetcher: called as `Fetcher` is.
        """
        self._items = items
        self._rules = rules
        self._pacing = pacing or DownloadPacing()
        self._make_fetcher = make_fetcher
        self._results: queue.SimpleQueue[_Done | StreamEnd] = queue.SimpleQueue()
        self._window = threading.Semaphore(WINDOW)
        self._closed = threading.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._work, name="clipmod-downloads", daemon=True)
        self._traffic = traffic or ByteCounter()
        self._scheduler = HostScheduler(
            self._pacing.concurrency, self._pacing.per_host, lambda: self._untaken < FINISHED_AHEAD
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._untaken = 0
        self._end: StreamEnd | None = None

    def __iter__(self) -> Iterator[Item | Failure]:
        """Yield one Item or Failure for each item, as they complete."""
        try:
            self._thread.start()
            while isinstance(got := self._results.get(), _Done) and not self._closed.is_set():
                self._window.release()
                if got.body is not None:
                    self._call_in_loop(self._release, got.body)
                yield got.result
            if isinstance(got, StreamEnd) and got.error is not None:
                raise got.error
        finally:
            self.close()

    def close(self) -> None:
        """Cancel the downloads and end the iteration; returns soon."""
        self._closed.set()
        self._window.release()  # wakes the reader
        self._results.put(StreamEnd())  # wakes the consumer
        if self._thread.is_alive() and self._running.wait(CLOSE_S):
            self._call_in_loop(self._cancelled.set)
            self._thread.join(CLOSE_S)

    def _call_in_loop(self, function: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the reader's thread.

    def _read(self) -> None:
        self._call_in_loop(self._end_reading, feed(self._items, self._submit, self._has_room))

    def _has_room(self) -> bool:
        self._window.acquire()
        return not self._closed.is_set()

    def _submit(self, item: Item | Failure) -> None:
        self._call_in_loop(self._start, item)

    # In the event loop's thread.

    def _work(self) -> None:
        try:
            asyncio.run(self._download_all())
        except BaseException as e:  # noqa: BLE001 — raised again in the consumer's thread
            self._results.put(StreamEnd(e))

    async def _download_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._cancelled = asyncio.Event()
        self._running.set()
        fetcher = self._make_fetcher(
            self._rules, max_connections=self._pacing.concurrency, traffic=self._traffic
        )
        async with fetcher as self._fetcher:
            threading.Thread(target=self._read, name="clipmod-url-list", daemon=True).start()
            await self._cancelled.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, item: Item | Failure) -> None:
        if isinstance(item, Failure):
            self._results.put(_Done(item))
        elif not self._cancelled.is_set():
            task = self._loop.create_task(self._download(item))
            self._tasks.add(task)
            task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._end_if_done()

    def _end_reading(self, end: StreamEnd) -> None:
        self._end = end
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._end is not None and not self._tasks:
            self._results.put(self._end)

    def _release(self, body: DownloadedBody) -> None:
        self._fetcher.bodies.release(body)
        self._untaken -= 1
        self._scheduler.dispatch()

    async def _download(self, item: Item) -> None:
        try:
            body = await self._fetch(item.source)
        except (Exception, asyncio.CancelledError) as e:  # one result for each URL, whatever happens
            if self._cancelled.is_set():
                raise
            error = translate(e, answered=False)
            self._results.put(_Done(failure(replace(item, final_url=error.final_url), error)))
            return
        self._untaken += 1
        found = replace(item, data=body.data, spilled=body.spilled, final_url=body.final_url)
        self._results.put(_Done(found, body))

    async def _fetch(self, source: str) -> DownloadedBody:
        """Return the body of a URL; raises the FetchError of the last try."""
        tried = 0
        while True:
            try:
                return await self._fetcher.fetch(source, self._scheduler.slot)
            except FetchError as e:
                if not e.again or tried == self._pacing.retries:
                    raise
                if not e.retry_after_s:  # with it the host is paused, and so is this URL
                    backoff_s = self._pacing.backoff_s * 2**tried
                    await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311
            tried += 1
