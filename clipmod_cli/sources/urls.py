"""Many URLs → Items with their bytes, and Failures, in the order in which they complete.

An event loop in a thread of its own downloads while whoever iterates judges. Every URL gives one
result. How one URL is downloaded is `clipmod_cli.sources.fetch`'s matter; here is how many at once, how
often, and how far ahead: a bounded window of the list is looked at, so that a slow host's URLs wait
while those of others pass by.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from clipmod_cli.sources.bodies import Body
from clipmod_cli.sources.fetch import Fetcher, FetchRules
from clipmod_cli.sources.fetch_errors import FetchError, translate
from clipmod_cli.sources.turns import Budget, TooManyPausesError, Turns
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many downloads at once, and how often one is tried again.

    Attributes:
        concurrency: in all.
        per_host: from one host.
        retries: after a refusal that may pass: 429, 5xx, no connection.
        backoff_s: about how long is waited before the first of them; twice as long before the next.
    """

    concurrency: int = 64
    per_host: int = 4
    retries: int = 2
    backoff_s: float = 1.0


@dataclass(frozen=True, slots=True)
class _Done:
    """One result, and the body whose room is to be given back when it is taken."""

    result: Item | Failure
    body: Body | None


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
        pace: Pace | None = None,
        *,
        make_fetcher: FetcherMaker = Fetcher,
    ) -> None:
        """Start nothing yet.

        Args:
            items: whose `source` is a URL; read in a thread of their own. Failures pass through. What
                they raise is raised by the iteration, after all results before it.
            rules: where to and how much.
            pace: how many at once.
            make_fetcher: called as `Fetcher` is.
        """
        self._items = items
        self._rules = rules
        self._pace = pace or Pace()
        self._make_fetcher = make_fetcher
        self._results: queue.SimpleQueue[_Done | _End] = queue.SimpleQueue()
        self._room = threading.Semaphore(WINDOW)
        self._left = threading.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._work, name="clipmod-downloads", daemon=True)
        self._memory = Budget(max(MEMORY_BYTES, 2 * rules.max_bytes))
        self._turns = Turns(self._pace.concurrency, self._pace.per_host, self._wants_more)
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
        fetcher = self._make_fetcher(self._rules, connections=self._pace.concurrency, memory=self._memory)
        async with fetcher as self._fetcher:
            threading.Thread(target=self._read, name="clipmod-url-list", daemon=True).start()
            await self._closing.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, item: Item | Failure) -> None:
        if isinstance(item, Failure):
            self._results.put(_Done(item, None))
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

    def _give_back(self, body: Body) -> None:
        room = self._memory if body.spilled is None else self._fetcher.folder.room
        room.give(body.size)
        self._untaken -= 1
        self._turns.give_out()

    async def _download(self, item: Item) -> None:
        try:
            body = await self._fetch(item.source)
        except Exception as e:  # noqa: BLE001 — one URL, one result, whatever happens
            self._results.put(_Done(_failure(item, translate(e, answered=False)), None))
            return
        self._untaken += 1
        found = replace(item, data=body.data, spilled=body.spilled, final_url=body.final_url)
        self._results.put(_Done(found, body))

    async def _fetch(self, source: str) -> Body:
        """Return what a URL gives, after as many tries as it takes and the pace allows."""
        tried = 0
        while True:
            try:
                return await self._fetcher.fetch(source, self._turn)
            except FetchError as e:
                if not e.again or tried == self._pace.retries:
                    raise
                if not e.retry_after_s:  # else the host is paused, which makes this wait as well
                    await asyncio.sleep(self._pace.backoff_s * 2**tried * random.uniform(0.5, 1.5))  # noqa: S311
            tried += 1

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncIterator[None]:
        """Hold a turn with a host, and let it pause all of its URLs."""
        try:
            async with self._turns.take(host):
                try:
                    yield
                except FetchError as e:
                    self._heed(host, e)
                    raise
                self._turns.answered(host)
        except TooManyPausesError as e:
            raise FetchError("http_error", "not tried: the host always asks for a pause", status=e.why) from e

    def _heed(self, host: str, error: FetchError) -> None:
        if error.retry_after_s and error.status:
            self._turns.pause(host, error.retry_after_s, error.status)
        elif error.status:
            self._turns.answered(host)


def _failure(item: Item, error: FetchError) -> Failure:
    return Failure(
        item=replace(item, final_url=error.final_url),
        stage="source",
        code=error.code,
        message=error.message,
        http_status=error.status,
    )
