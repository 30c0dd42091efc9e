"""Streams between stages: prefetching in a thread, and batches with a timeout. Knows nothing of images."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_WAIT_S = 0.02
"""How long an open batch waits for more values: a small picture decodes within it."""

POLL_S = 0.1
"""How often a thread that waits for room or for a value checks for a stop."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a stream; `error` is what the stream raised, if it did."""

    error: BaseException | None = None


def feed(stream: Iterable[T], put: Callable[[T], object], has_room: Callable[[], bool]) -> StreamEnd:
    """Pass the values of a stream to `put`, until it ends or `has_room` is false; then close it.

    `has_room` may wait; it is called before each value is made. Nothing is raised: what the stream or `put`
    raises is part of the end.
    """
    try:
        iterator = iter(stream)
        try:
            while has_room():
                try:
                    value = next(iterator)
                except StopIteration:
                    break
                put(value)
                del value  # while waiting for room, its memory may be freed elsewhere
        finally:
            if close := getattr(iterator, "close", None):
                close()
    except BaseException as e:  # noqa: BLE001 — raised again in the consumer's thread
        return StreamEnd(e)
    return StreamEnd()


class _Feeder(Generic[T]):
    """Pulls a stream in a thread of its own, at most `ahead` values ahead of the consumer."""

    def __init__(self, stream: Iterable[T], ahead: int) -> None:
        self._queue: queue.SimpleQueue[T | StreamEnd] = queue.SimpleQueue()
        self._room = threading.Semaphore(ahead)
        self._stream = stream
        self.stopped = threading.Event()  # once set, the thread closes the stream and ends
        self.thread = threading.Thread(target=self._run, name="clipmod-feeder", daemon=True)
        self.thread.start()

    def get(self, timeout_s: float) -> T | StreamEnd:
        """Return the next value, or the end.

        Raises:
            queue.Empty: nothing came in so many seconds.
        """
        value = self._queue.get(timeout=timeout_s) if timeout_s else self._queue.get_nowait()
        self._room.release()
        return value

    def take(self, waiting: threading.Event) -> T | StreamEnd:
        """Return the next value, or the end; signals are handled while it waits.

        The event is set while it waits.
        """
        with contextlib.suppress(queue.Empty):
            return self.get(0)
        waiting.set()
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    return self.get(POLL_S)
        finally:
            waiting.clear()

    def _run(self) -> None:
        self._queue.put(feed(self._stream, self._queue.put, self._have_room))

    def _have_room(self) -> bool:
        """Wait until a value may be made; false once stopped."""
        while not self.stopped.is_set():
            if self._room.acquire(timeout=POLL_S):
                return not self.stopped.is_set()
        return False


def ahead(
    stream: Iterable[T],
    count: int,
    *,
    closing: Callable[[], object] = lambda: None,
    waiting: threading.Event | None = None,
) -> Generator[T, None, None]:
    """Yield the values of the stream, pulled by a thread at most `count` values ahead of the consumer.

    What the stream raises is raised here, after all values before it. Closing waits for the value that is
    being made, since libraries must not be torn down in the middle; `closing` is called before that wait,
    to end waits inside the stream. `waiting` is set while the consumer waits for a value.
    """
    feeder = _Feeder(stream, count)
    waiting = waiting or threading.Event()
    try:
        while not isinstance(value := feeder.take(waiting), StreamEnd):
            yield value
        if value.error is not None:
            raise value.error
    finally:
        feeder.stopped.set()
        closing()
        feeder.thread.join()


def batched(
    stream: Iterable[T],
    size: int,
    *,
    max_wait_s: float = MAX_WAIT_S,
    stopped: Callable[[], bool] = lambda: False,
    may_close: Callable[[], bool] = lambda: True,
) -> Iterator[list[T]]:
    """Yield non-empty lists of at most `size`, in the stream's order, losing nothing.

    A batch closes when it is full, or when nothing came for `max_wait_s` seconds and `may_close` is true
    (else batches that are made ahead of time would be small). A thread reads the stream ahead by at most
    two batches. What the stream raises is raised here, after all values before it. Once `stopped` is true
    no further batch is yielded, also while the stream is silent.
    """
    feeder = _Feeder(stream, 2 * size)
    try:
        end: StreamEnd | None = None
        while end is None:
            batch, end = _gather(feeder, size, max_wait_s, lambda: may_close() or stopped())
            if stopped():
                return
            if batch:
                yield batch
        if end.error is not None:
            raise end.error
    finally:
        feeder.stopped.set()


def _gather(
    source: _Feeder[T], size: int, max_wait_s: float, may_close: Callable[[], bool]
) -> tuple[list[T], StreamEnd | None]:
    """Return the next batch, which is empty if nothing came for a while, and the end if it came."""
    batch: list[T] = []
    while len(batch) < size:
        try:
            value = source.get(max_wait_s if batch else POLL_S)
        except queue.Empty:
            if batch and not may_close():
                continue
            break
        if isinstance(value, StreamEnd):
            return batch, value
        batch.append(value)
    return batch, None
