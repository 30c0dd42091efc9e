"""The stage: items → frames and failures, decoded ahead by a few threads, in the items' order.

What one item does is `picture.decode_item`, which knows nothing of this; each thread calls it, or
has a worker process of its own call it (`workers`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.picture import decode_item
from clipmod_cli.decode.workers import Crew
from clipmod_cli.types import Failure, Frame, Item, View

AHEAD_PER_WORKER = 4
"""Items in the window for each worker, unless the caller says how many: the caller knows its batches
(two of them keep a device fed), this only keeps the workers busy."""

Decoded: TypeAlias = list[Frame | Failure]

Work: TypeAlias = Callable[..., Decoded]
"""`picture.decode_item`, or a crew's."""


class PixelBudget:
    """Holds threads back while more than `most` pixels are being decoded.

    A picture larger than the whole budget waits until it is alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Take `pixels` out of the budget for the time of the block; waits until they are there."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._most)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _End:
    """No further item follows; `error` is what the items raised, if they did."""

    error: BaseException | None


class _Line:
    """The window: pulls items in a thread of its own, and keeps their results in order.

    Its own thread, because a slow producer of items must not hold back results that are ready.
    """

    def __init__(self, items: Iterable[Item | Failure], executor: ThreadPoolExecutor, ahead: int) -> None:
        self.results: queue.SimpleQueue[Future[Decoded] | _End] = queue.SimpleQueue()
        self.free = threading.Semaphore(ahead)
        self._items = items
        self._executor = executor
        self._left = threading.Event()

    def start(self, work: Work, views: Sequence[View], options: DecodeOptions, budget: PixelBudget) -> None:
        """Begin to pull items and to have them decoded by `work`."""
        # A daemon: a producer that never yields again (a terminal) must not keep the program from ending.
        threading.Thread(
            target=self._pull, args=(work, views, options, budget), name="clipmod-decode-feed", daemon=True
        ).start()

    def leave(self) -> None:
        """Let the thread end as soon as its producer yields; nobody reads any more."""
        self._left.set()
        self.free.release()

    def _pull(self, work: Work, views: Sequence[View], options: DecodeOptions, budget: PixelBudget) -> None:
        error: BaseException | None = None
        iterator = iter(self._items)
        try:
            while self._wait_for_room() and (item := next(iterator, None)) is not None:
                if self._left.is_set():
                    break
                if isinstance(item, Failure):
                    self.results.put(_already(item))
                    continue
                self.results.put(self._executor.submit(work, item, views, options, gate=budget.hold))
        except BaseException as e:  # noqa: BLE001 — it is raised again in the consumer's thread
            error = e
        finally:
            self.results.put(_End(error))
            if isinstance(iterator, Generator):
                iterator.close()

    def _wait_for_room(self) -> bool:
        self.free.acquire()
        return not self._left.is_set()


def _already(failure: Failure) -> Future[Decoded]:
    """Return the result of an item that its source could not get hold of."""
    future: Future[Decoded] = Future()
    future.set_result([failure])
    return future


def decode(
    items: Iterable[Item | Failure],
    views: Sequence[View],
    options: DecodeOptions,
    workers: int,
    *,
    ahead: int | None = None,
    crew: Crew | None = None,
) -> Iterator[Frame | Failure]:
    """Yield the frames and failures of `items`, in their order; lazy.

    Args:
        items: what to decode; a source's own failures pass through in their place. At most `ahead`
            are pulled before their results are taken. What pulling them raises is raised here, after
            all results before it.
        views: the geometries of the arrays in each frame; equal ones are made once.
        options: limits, exactness, sampling of animations.
        workers: threads that decode.
        ahead: the size of the window, in items.
        crew: worker processes that decode behind the threads; ended with the stage. None decodes in
            this process.
    """
    budget = PixelBudget(options.limits.pixels_in_flight)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="clipmod-decode")
    line = _Line(items, executor, ahead or AHEAD_PER_WORKER * workers)
    try:
        line.start(crew.decode_item if crew else decode_item, tuple(views), options, budget)
        while not isinstance(decoded := line.results.get(), _End):
            yield from decoded.result()
            line.free.release()
        if decoded.error is not None:
            raise decoded.error
    finally:
        line.leave()
        executor.shutdown(wait=False, cancel_futures=True)
        if crew is not None:
            crew.close()
