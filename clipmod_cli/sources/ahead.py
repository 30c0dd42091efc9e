"""Work in threads ahead of its consumer, in order, within a budget of bytes."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

from clipmod_cli.flow import StreamEnd, feed
from clipmod_cli.types import Failure, Item

MAX_AHEAD_BYTES = 32_000_000
"""About 70,000 items with paths of 100 characters."""

ITEM_BYTES = 350
"""Of an item without its path."""

STORED_ITEM_BYTES = 1000
"""Of an item in an object store, with its key and checksums."""

G = TypeVar("G")
R = TypeVar("R")


class PrefetchWindow:
    """Limits the untaken results by number and bytes; a result over the limit of bytes is let in alone."""

    def __init__(self, items: int, max_bytes: int) -> None:
        self._items = items
        self._max_bytes = max_bytes
        self._bytes = 0
        self.closed = False
        self._changed = threading.Condition()

    def acquire(self) -> bool:
        """Wait until one more result may be started; false once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._items > 0)
            self._items -= 1
            return not self.closed

    def reserve(self, size: int) -> bool:
        """Wait until the bytes of that result fit; false once closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.closed or not self._bytes or self._bytes + size <= self._max_bytes
            )
            self._bytes += size
            return not self.closed

    def release(self, size: int) -> None:
        """Make room: a result of this size was taken."""
        with self._changed:
            self._items += 1
            self._bytes -= size
            self._changed.notify_all()

    def close(self) -> None:
        """End all waiting."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


def _read_ahead(
    items: Iterable[G],
    start: Callable[[G], Callable[[], R]],
    window: PrefetchWindow,
    *,
    cost: Callable[[G], int],
    end: Callable[[StreamEnd], None],
    thread: str,
) -> Generator[R, None, None]:
    """Yield the results in order: `start` is called in a new thread, and what it returns is called here.

    `end` is called in the thread after the last item.
    """
    results: queue.SimpleQueue[tuple[Callable[[], R], int] | StreamEnd] = queue.SimpleQueue()

    def put(item: G) -> None:
        size = cost(item)
        if window.reserve(size):
            results.put((start(item), size))

    def read() -> None:
        ended = feed(items, put, window.acquire)
        end(ended)
        results.put(ended)

    # A daemon: a file system that does not answer must not keep the program from ending.
    threading.Thread(target=read, name=thread, daemon=True).start()
    try:
        while not isinstance(got := results.get(), StreamEnd):
            take, size = got
            result = take()
            window.release(size)
            yield result
        if got.error is not None:
            raise got.error
    finally:
        window.close()


def prefetch(
    items: Iterable[G],
    work: Callable[[G], R],
    *,
    threads: int,
    ahead: int,
    at_once: Callable[[G], R | None] = lambda _: None,
    cost: Callable[[G], int] = lambda _: 0,
    max_bytes: int = 0,
) -> Generator[R, None, None]:
    """Yield the results of `work` on each item, in their order; what it raises is raised in its place.

    `at_once` gives the result of an item that needs no work, None for any other: no thread is begun for it.
    A slow producer holds back no finished result. No thread outlives the iteration by more than the work
    it has started. At most `ahead` results are started and not taken; until then they hold `cost(item)`
    bytes, of at most `max_bytes` in all.
    """
    window = PrefetchWindow(ahead, max_bytes)
    tasks: queue.SimpleQueue[tuple[G, Future[R]] | None] = queue.SimpleQueue()
    started = 0

    def run() -> None:
        while (task := tasks.get()) is not None and not window.closed:
            _settle(*task, work)

    def start(item: G) -> Callable[[], R]:
        nonlocal started
        if (result := at_once(item)) is not None:
            return lambda: result
        future: Future[R] = Future()
        tasks.put((item, future))
        if started < threads:
            started += 1
            threading.Thread(target=run, name="clipmod-ahead", daemon=True).start()
        return future.result

    def end(_: StreamEnd) -> None:
        for _thread in range(started):
            tasks.put(None)

    return _read_ahead(items, start, window, cost=cost, end=end, thread="clipmod-ahead-feed")


def _settle(item: G, future: Future[R], work: Callable[[G], R]) -> None:
    try:
        future.set_result(work(item))
    except BaseException as e:  # noqa: BLE001 — raised again in the consumer's thread
        future.set_exception(e)


def walk_ahead(
    items: Iterable[Item | Failure], set_total: Callable[[int], None]
) -> Generator[Item | Failure, None, None]:
    """Yield the items; call `set_total` with their number as soon as the walk has ended, in its thread.

    Items that carry bytes are not read ahead: at most one waits.
    """
    window = PrefetchWindow(sys.maxsize, MAX_AHEAD_BYTES)
    total = 0

    def start(item: Item | Failure) -> Callable[[], Item | Failure]:
        nonlocal total
        total += 1
        return lambda: item

    def end(ended: StreamEnd) -> None:
        if ended.error is None and not window.closed:
            set_total(total)

    return _read_ahead(items, start, window, cost=_size, end=end, thread="clipmod-walk")


def _size(given: Item | Failure) -> int:
    item = given.item if isinstance(given, Failure) else given
    if item.data is not None or item.member is not None:
        return MAX_AHEAD_BYTES
    return (ITEM_BYTES if type(item) is Item else STORED_ITEM_BYTES) + len(item.source)
