"""Work in threads ahead of its consumer, in order, within a budget of bytes: the walk, and prefetching."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from typing import Generic, TypeVar

from clipmod_cli.flow import StreamEnd, feed
from clipmod_cli.types import Failure, Item

MAX_AHEAD_BYTES = 32_000_000
"""About 70,000 items with paths of 100 characters."""

ITEM_BYTES = 350
"""Of an item without its path."""

G = TypeVar("G")
R = TypeVar("R")


class PrefetchWindow:
    """Limits the untaken results by number and bytes; a result over the limit of bytes is let in alone."""

    def __init__(self, items: int, max_bytes: int) -> None:
        self._items = items
        self._max_bytes = max_bytes
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self) -> bool:
        """Wait until one more result may be started; false once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items > 0)
            self._items -= 1
            return not self._closed

    def reserve(self, size: int) -> bool:
        """Wait until the bytes of that result fit; false once closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._bytes or self._bytes + size <= self._max_bytes
            )
            self._bytes += size
            return not self._closed

    def release(self, size: int) -> None:
        """Make room: a result of this size was taken."""
        with self._changed:
            self._items += 1
            self._bytes -= size
            self._changed.notify_all()

    def close(self) -> None:
        """End all waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Prefetch(Generic[G, R]):
    """The results of `work` on each item, in their order; to be iterated once.

    A slow producer holds back no finished result. No thread outlives the iteration by more than the work
    it has started.

    Args:
        items: pulled in a thread of its own.
        work: never raises, unless the run is to end.
        threads: calls of `work` at once.
        ahead: results started and not taken, at most.
        cost: the bytes that a result will hold until it is taken.
        max_bytes: of all of them.
    """

    def __init__(
        self,
        items: Iterable[G],
        work: Callable[[G], R],
        *,
        threads: int,
        ahead: int,
        cost: Callable[[G], int] = lambda _: 0,
        max_bytes: int = 0,
    ) -> None:
        self._items = items
        self._work = work
        self._cost = cost
        self._threads = threads
        self._started = 0
        self._window = PrefetchWindow(ahead, max_bytes)
        self._closed = threading.Event()
        self._tasks: queue.SimpleQueue[tuple[G, Future[R]] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Future[R], int] | StreamEnd] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[R]:
        """Yield the results; what the producer or `work` raises is raised in its place."""
        threading.Thread(target=self._feed, name="clipmod-ahead-feed", daemon=True).start()
        try:
            while not isinstance(got := self._results.get(), StreamEnd):
                future, cost = got
                result = future.result()
                self._window.release(cost)
                yield result
            if got.error is not None:
                raise got.error
        finally:
            self._closed.set()
            self._window.close()

    def _feed(self) -> None:
        self._results.put(feed(self._items, self._submit, self._window.acquire))
        for _ in range(self._started):
            self._tasks.put(None)

    def _submit(self, item: G) -> None:
        cost = self._cost(item)
        if not self._window.reserve(cost):
            return
        future: Future[R] = Future()
        self._results.put((future, cost))
        self._tasks.put((item, future))
        if self._started < self._threads:
            self._started += 1
            # Daemons: the end of the program must not wait for a server that does not answer.
            threading.Thread(target=self._run, name="clipmod-ahead", daemon=True).start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None and not self._closed.is_set():
            item, future = task
            try:
                future.set_result(self._work(item))
            except BaseException as e:  # noqa: BLE001 — raised again in the consumer's thread
                future.set_exception(e)


def walk_ahead(
    items: Iterable[Item | Failure], set_total: Callable[[int], None]
) -> Generator[Item | Failure, None, None]:
    """Yield the items; call `set_total` with their number as soon as the walk has ended, in its thread.

    Items that carry bytes, or come from an object store, are not read ahead: at most one waits.
    """
    results: queue.SimpleQueue[tuple[Item | Failure, int] | StreamEnd] = queue.SimpleQueue()
    window = PrefetchWindow(sys.maxsize, MAX_AHEAD_BYTES)
    closed = threading.Event()
    count = 0

    def put(item: Item | Failure) -> None:
        nonlocal count
        size = _size(item)
        if window.reserve(size):
            count += 1
            results.put((item, size))

    def walk() -> None:
        end = feed(items, put, window.acquire)
        if end.error is None and not closed.is_set():
            set_total(count)
        results.put(end)

    # A daemon: a walk in a file system that does not answer must not keep the program from ending.
    threading.Thread(target=walk, name="clipmod-walk", daemon=True).start()
    try:
        while not isinstance(got := results.get(), StreamEnd):
            item, size = got
            window.release(size)
            yield item
        if got.error is not None:
            raise got.error
    finally:
        closed.set()
        window.close()


def _size(given: Item | Failure) -> int:
    item = given.item if isinstance(given, Failure) else given
    is_file = type(item) is Item and item.data is None and item.member is None
    return ITEM_BYTES + len(item.source) if is_file else MAX_AHEAD_BYTES
