"""Runs the walk ahead of decoding in its own thread, so that the total is known early. Memory is bounded."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

from clipmod_cli.sources.ahead import ByteBudget
from clipmod_cli.types import Failure, Item

MAX_AHEAD_BYTES = 32_000_000
"""About 70,000 items with paths of 100 characters."""

ITEM_BYTES = 350
"""Of an item without its path."""


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


def walk_ahead(items: Iterable[Item | Failure], set_total: Callable[[int], None]) -> Iterator[Item | Failure]:
    """Yield the items; call `set_total` with their number as soon as the walk has ended, in its thread.

    Items that carry bytes, or come from an object store, are not read ahead: at most one waits.
    """
    results: queue.SimpleQueue[tuple[Item | Failure, int] | _End] = queue.SimpleQueue()
    budget = ByteBudget(MAX_AHEAD_BYTES)
    closed = threading.Event()

    def walk() -> None:
        error: BaseException | None = None
        count = 0
        try:
            for item in items:
                size = _size(item)
                budget.take(size)
                if closed.is_set():
                    return
                count += 1
                results.put((item, size))
            set_total(count)
        except BaseException as e:  # noqa: BLE001 — it is raised again in the consumer's thread
            error = e
        finally:
            results.put(_End(error))
            if isinstance(items, Generator):
                items.close()

    # A daemon: a walk in a file system that does not answer must not keep the program from ending.
    threading.Thread(target=walk, name="clipmod-walk", daemon=True).start()
    try:
        while not isinstance(got := results.get(), _End):
            item, size = got
            budget.give(size)
            yield item
        if got.error is not None:
            raise got.error
    finally:
        closed.set()
        budget.shut()


def _size(given: Item | Failure) -> int:
    item = given.item if isinstance(given, Failure) else given
    is_file = type(item) is Item and item.data is None and item.member is None
    return ITEM_BYTES + len(item.source) if is_file else MAX_AHEAD_BYTES
