"""Generic plumbing between stages: work ahead, and batches that close in time. Knows nothing of pictures."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

PATIENCE_S = 0.02
"""How long an open batch waits for more: nobody notices it, and a small picture decodes within it."""

POLL_S = 0.1
"""How often a thread that waits for room, or for a value, looks whether anything else has happened."""


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
    """Pulls a stream in a thread of its own, at most `ahead` values ahead of who takes them."""

    def __init__(self, stream: Iterable[T], ahead: int) -> None:
        self._queue: queue.SimpleQueue[T | StreamEnd] = queue.SimpleQueue()
        self._room = threading.Semaphore(ahead)
        self._stream = stream
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clipmod-feeder", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Tell the thread that nobody reads any more; it closes the stream and ends."""
        self._left.set()

    def get(self, timeout_s: float) -> T | StreamEnd:
        """Return the next value, or the end.

        Raises:
            queue.Empty: nothing came in so many seconds.
        """
        value = self._queue.get(timeout=timeout_s) if timeout_s else self._queue.get_nowait()
        self._room.release()
        return value

    def take(self, waiting: threading.Event) -> T | StreamEnd:
        """Return the next value, or the end; waits for it, but not deaf to signals.

        Whether it has to wait is told by the event.
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

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        self._queue.put(feed(self._stream, self._queue.put, self._have_room))

    def _have_room(self) -> bool:
        """Wait until a value may be made; False once nobody reads any more."""
        while not self._left.is_set():
            if self._room.acquire(timeout=POLL_S):
                return not self._left.is_set()
        return False


def ahead(
    stream: Iterable[T],
    count: int,
    *,
    leaving: Callable[[], object] = lambda: None,
    waiting: threading.Event | None = None,
) -> Generator[T, None, None]:
    """Yield what the stream yields, at most `count` values ahead of the consumer.

    The stream is pulled by a thread of its own, so it works while the consumer does. What it raises is
    raised here, after all that came before it. Whoever leaves waits for the value that is being made: it
    may be made by a library that must not be torn down in the middle. `leaving` is called before that
    wait, to end what makes the value wait itself. `waiting` is set while the consumer waits for a value.
    """
    feeder = _Feeder(stream, count)
    waiting = waiting or threading.Event()
    try:
        while not isinstance(value := feeder.take(waiting), StreamEnd):
            yield value
        if value.error is not None:
            raise value.error
    finally:
        feeder.leave()
        leaving()
        feeder.join()


def batched(
    stream: Iterable[T],
    size: int,
    *,
    patience_s: float = PATIENCE_S,
    stopped: Callable[[], bool] = lambda: False,
    wanted: Callable[[], bool] = lambda: True,
) -> Iterator[list[T]]:
    """Yield non-empty lists of at most `size`, in the stream's order, losing nothing.

    A batch closes when it is full, or when nothing came for `patience_s` seconds and it is `wanted`: who
    makes batches ahead of time would make small ones else. The stream is read ahead by at most two
    batches in a thread of its own, so it works while the consumer does. What the stream raises is raised
    here, after all that came before it was yielded. Once `stopped` says so, no further batch is yielded,
    also while the stream is silent.
    """
    feeder = _Feeder(stream, 2 * size)
    try:
        end: StreamEnd | None = None
        while end is None:
            batch, end = _gather(feeder, size, patience_s, lambda: wanted() or stopped())
            if stopped():
                return
            if batch:
                yield batch
        if end.error is not None:
            raise end.error
    finally:
        feeder.leave()


def _gather(
    source: _Feeder[T], size: int, patience_s: float, wanted: Callable[[], bool]
) -> tuple[list[T], StreamEnd | None]:
    """Return the next batch, which is empty if nothing came for a while, and the end if it came."""
    batch: list[T] = []
    while len(batch) < size:
        try:
            value = source.get(patience_s if batch else POLL_S)
        except queue.Empty:
            if batch and not wanted():
                continue
            break
        if isinstance(value, StreamEnd):
            return batch, value
        batch.append(value)
    return batch, None
