"""Many URLs → Items with their bytes, and Failures, in the order in which they complete.

An event loop in a thread of its own downloads while whoever iterates judges. Every URL gives one
result. How one URL is downloaded is `clipmod_cli.sources.web.fetch`'s matter; here is how many at once, how
often, and how far ahead: a bounded window of the list is looked at, so that a slow host's URLs wait
while those of others pass by.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from clipmod_cli.sources.web.errors import FetchError, translate
from clipmod_cli.sources.web.fetch import Fetcher, FetchRules
from clipmod_cli.sources.web.hosts import DownloadBudget, HostScheduler
from clipmod_cli.sources.web.responses import ByteCounter, DownloadedBody
from clipmod_cli.sources.web.retry import DownloadPacing, RetryingFetcher
from clipmod_cli.types import Failure, Item

WINDOW = 10_000
"""URLs that are read ahead of the results taken: a list sorted by host still has others to ask."""

MEMORY_BYTES = 512_000_000
"""Of bodies, from the moment that room is made for them until they are taken."""

FINISHED_AHEAD = 64
"""Pictures that may wait to be taken before no new download begins: judging is what takes the time."""

LEAVE_S = 2.0
"""How long `close` waits for connections to end; after that they end with the process."""

FetcherMaker: TypeAlias = Callable[..., Fetcher]


@dataclass(frozen=True, slots=True)
class _Done:
    """One result, and the body whose room is to be given back when it is taken."""

    result: Item | Failure
    body: DownloadedBody | None


@dataclass(frozen=True, slots=True)
class _End:
    """No further result follows; `error` is what the list raised, if it did."""

    error: BaseException | None


class Downloads:
    """The results of downloading `items`, to be iterated once, by one thread.

    `close` may be called by any thread and at any time; it ends the iteration.
    """

    def __init__(
        self,
        items: Iterable[Item | Failure],
        rules: FetchRules,
        pace: DownloadPacing | None = None,
        *,
        traffic: ByteCounter | None = None,
        make_fetcher: FetcherMaker = Fetcher,
    ) -> None:
        """Start nothing yet.

        Args:
            items: whose `source` is a URL; read in a thread of their own. Failures pass through. What
                they raise is raised by the iteration, after all results before it.
            rules: where to and how much.
            pace: how many at once.
            traffic: counts the bytes that come.
            make_fetcher: called as `Fetcher` is.
        """
        self._items = items
        self._rules = rules
        self._pace = pace or DownloadPacing()
        self._make_fetcher = make_fetcher
        self._results: queue.SimpleQueue[_Done | _End] = queue.SimpleQueue()
        self._room = threading.Semaphore(WINDOW)
        self._left = threading.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._work, name="clipmod-downloads", daemon=True)
        self._traffic = traffic or ByteCounter()
        self._memory = DownloadBudget(max(MEMORY_BYTES, 2 * rules.max_bytes))
        self._turns = HostScheduler(self._pace.concurrency, self._pace.per_host, self._wants_more)
        self._tasks: set[asyncio.Task[None]] = set()
        self._untaken = 0
        self._reading = True
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[Item | Failure]:
        """Yield one Item or Failure for each item, as they complete."""
        try:
            self._thread.start()
            while isinstance(got := self._results.get(), _Done) and not self._left.is_set():
                self._take(got)
                yield got.result
            if isinstance(got, _End) and got.error is not None:
                raise got.error
        finally:
            self.close()

    def close(self) -> None:
        """Cancel what is under way and end the iteration; returns soon."""
        self._left.set()
        self._room.release()  # the reader may be waiting for room
        self._results.put(_End(None))  # and somebody for a result
        if self._thread.is_alive() and self._running.wait(LEAVE_S):
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(LEAVE_S)

    # In the consumer's thread.

    def _take(self, done: _Done) -> None:
        self._room.release()
        if done.body is not None:
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                self._loop.call_soon_threadsafe(self._give_back, done.body)

    # In the reader's thread.

    def _read(self) -> None:
        error: BaseException | None = None
        iterator = iter(self._items)
        try:
            for item in iterator:
                self._room.acquire()
                if self._left.is_set():
                    break
                self._loop.call_soon_threadsafe(self._begin, item)
        except BaseException as e:  # noqa: BLE001 — it is raised again in the consumer's thread
            error = e
        finally:
            if isinstance(iterator, Generator):
                iterator.close()
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            self._loop.call_soon_threadsafe(self._end_reading, error)

    # In the event loop's thread.

    def _work(self) -> None:
        try:
            asyncio.run(self._download_all())
        except BaseException as e:  # noqa: BLE001 — it is raised again in the consumer's thread
            self._results.put(_End(e))

    async def _download_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._running.set()
        fetcher = self._make_fetcher(
            self._rules, connections=self._pace.concurrency, memory=self._memory, traffic=self._traffic
        )
        async with fetcher as self._fetcher:
            self._patient = RetryingFetcher(fetcher, self._turns, self._pace)
            threading.Thread(target=self._read, name="clipmod-url-list", daemon=True).start()
            await self._closing.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, item: Item | Failure) -> None:
        if isinstance(item, Failure):
            self._results.put(_Done(item, None))
            return
        if self._closing.is_set():
            return
        task = self._loop.create_task(self._download(item))
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._end_if_done()

    def _end_reading(self, error: BaseException | None) -> None:
        self._reading, self._error = False, error
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self._reading and not self._tasks:
            self._results.put(_End(self._error))

    def _wants_more(self) -> bool:
        return self._untaken < FINISHED_AHEAD

    def _give_back(self, body: DownloadedBody) -> None:
        room = self._memory if body.spilled is None else self._fetcher.folder.room
        room.give(body.size)
        self._untaken -= 1
        self._turns.give_out()

    async def _download(self, item: Item) -> None:
        try:
            body = await self._patient.fetch(item.source)
        except (Exception, asyncio.CancelledError) as e:  # one URL, one result, whatever happens
            if self._closing.is_set():
                raise
            self._results.put(_Done(_failure(item, translate(e, answered=False)), None))
            return
        self._untaken += 1
        found = replace(item, data=body.data, spilled=body.spilled, final_url=body.final_url)
        self._results.put(_Done(found, body))


def _failure(item: Item, error: FetchError) -> Failure:
    return Failure(
        item=replace(item, final_url=error.final_url),
        stage="source",
        code=error.code,
        message=error.message,
        http_status=error.status,
    )
