"""Runs the walk ahead of decoding in its own thread, so that the total is known early. Memory is bounded."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable

from clipmod_cli.flow import StreamEnd, feed
from clipmod_cli.sources.ahead import PrefetchWindow
from clipmod_cli.types import Failure, Item

MAX_AHEAD_BYTES = 32_000_000
"""About 70,000 items with paths of 100 characters."""

ITEM_BYTES = 350
"""Of an item without its path."""


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
