"""The decode stage: items → frames or what is settled, decoded ahead by a few threads, in the items' order.

`Decoders` are the threads, each with a worker process if isolated; one set can serve many streams, so that
requests of a service start no processes. `decode_with` limits how far it decodes ahead of its consumer.
"""

from __future__ import annotations

import copy
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self, TypeAlias

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.job import Compare, in_no_bank
from clipmod_cli.decode.limits import DecodeLimits, DecodeOptions
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.flow import StreamEnd, feed
from clipmod_cli.results import Settled
from clipmod_cli.types import Failure, Frame, Geometry, Item

SMALL_BYTES = 100_000
"""Items with less data keep it: those of all items in flight take a few tens of megabytes."""

FREE_PIXELS = 5_000_000
"""A scaled photograph takes less than a million and a screenshot of 1920 x 1080 four, so few decodes wait
for the budget; 16 workers with so many leave more than half of it to the others."""

AHEAD_PER_WORKER = 4
"""Items in the window for each worker by default. A caller that knows its batches sets the window: two
batches keep a device busy."""

MAX_CARRIED_BYTES = 100_000_000
"""Encoded bytes of the items in the window; over it, no item is pulled. Two of the largest allowed."""

MAX_DECODED_BYTES = 500_000_000
"""Decoded pixels in the window; over it, no item is pulled. A still is a few hundred kilobytes, a film of
1,024 views 150 million."""

QUEUED_PER_WORKER = 2
"""Items not decoded yet: each worker's current and next one. All of the window may turn out to be films, and
the size of an item is known only when it is decoded."""

Decoded: TypeAlias = list[Frame | Settled]


class PixelBudget:
    """Blocks threads while more than `most` pixels are being decoded.

    A picture larger than the whole budget waits until it is alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Take `pixels` out of the budget for the block; waits until they are available."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._most)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


class Decoders(AbstractContextManager["Decoders"]):
    """Decodes items in the order in which they are submitted, of several clients in turn. Thread-safe."""

    def __init__(
        self, workers: int, *, pool: WorkerPool | None = None, pixels_in_flight: int | None = None
    ) -> None:
        """Start no thread or process yet.

        Args:
            workers: how many items are decoded at once.
            pool: worker processes behind the threads, ended by `close`; None decodes in this process.
            pixels_in_flight: that may be decoded at once; by default that of `DecodeLimits`.
        """
        self.workers = workers
        self._pool = pool
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="clipmod-decode")
        self._turns = _Turns()
        self._client: Hashable = None
        most = pixels_in_flight or DecodeLimits().pixels_in_flight
        self._free = free_pixels(most, workers) if pool is not None else 0
        self._gate = PixelBudget(most - workers * self._free).hold

    def submit(
        self,
        item: Item,
        geometries: Sequence[Geometry],
        options: DecodeOptions,
        compare: Compare = in_no_bank,
    ) -> Future[Decoded]:
        """Return the future of the item's frames and failures, or of what banks decide (`compare`).

        Raises:
            RuntimeError: after `close`.
        """
        job = _Job(partial(self._decode, item, geometries, options, compare))
        self._turns.put(self._client, job)
        self._executor.submit(self._turns.run_next)
        return job.result

    def shared_by(self, client: Hashable) -> Self:
        """Return the same decoders for one client, whose items take turns with those of others."""
        shared = copy.copy(self)
        shared._client = client  # noqa: SLF001
        return shared

    def close(self) -> None:
        """Start no further item; worker processes end at once, also while they decode."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._turns.cancel()
        if self._pool is not None:
            self._pool.close()

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _decode(
        self, item: Item, geometries: Sequence[Geometry], options: DecodeOptions, compare: Compare
    ) -> Decoded:
        if self._pool is None:
            decoded = decode_item(item, geometries, options, gate=self._gate, compare=compare)
        else:
            decoded = self._pool.decode_item(
                item, geometries, options, gate=self._gate, free_pixels=self._free, compare=compare
            )
        return _drop_data(item, decoded)


@dataclass(frozen=True, slots=True)
class _Job:
    """An item that waits for a decoder."""

    work: Callable[[], Decoded]
    result: Future[Decoded] = field(default_factory=Future)


class _Turns:
    """The waiting jobs: the first of each client in turn, so that no client delays the others."""

    def __init__(self) -> None:
        self._jobs: dict[Hashable, deque[_Job]] = {}
        self._lock = threading.Lock()

    def put(self, client: Hashable, job: _Job) -> None:
        with self._lock:
            self._jobs.setdefault(client, deque()).append(job)

    def run_next(self) -> None:
        """Run the next job, unless it was cancelled."""
        with self._lock:
            if not self._jobs:  # after `cancel`
                return
            client = next(iter(self._jobs))
            jobs = self._jobs.pop(client)
            job = jobs.popleft()
            if jobs:
                self._jobs[client] = jobs
        if not job.result.set_running_or_notify_cancel():
            return
        try:
            job.result.set_result(job.work())
        except BaseException as e:  # noqa: BLE001 — raised where the result is taken
            job.result.set_exception(e)

    def cancel(self) -> None:
        """Cancel all waiting jobs."""
        with self._lock:
            waiting = [job for jobs in self._jobs.values() for job in jobs]
            self._jobs.clear()
        for job in waiting:
            job.result.cancel()


def free_pixels(most: int, workers: int) -> int:
    """Return how many pixels each worker process may decode outside of the shared budget of `most`.

    Together at most half of it.
    """
    return min(FREE_PIXELS, most // (2 * workers))


def _drop_data(item: Item, decoded: Decoded) -> Decoded:
    """Return the results without the item's bytes, if those are many.

    Later stages hold some hundred frames at once. Only a video is decoded again.
    """
    if item.data is None or len(item.data) < SMALL_BYTES:
        return decoded
    if any(isinstance(one, Frame) and one.media.kind == "video" for one in decoded):
        return decoded
    bare = replace(item, data=None)
    return [replace(one, item=bare) for one in decoded]


def decode_with(
    decoders: Decoders,
    items: Iterable[Item | Failure],
    geometries: Sequence[Geometry],
    options: DecodeOptions,
    *,
    ahead: int | None = None,
    compare: Compare = in_no_bank,
) -> Generator[Frame | Settled, None, None]:
    """Yield the frames and failures of `items`, in their order; lazy.

    Args:
        decoders: may serve other streams too; items of this stream that are not started when it is closed
            never are.
        items: what to decode; a source's own failures pass through in their place. At most `ahead`
            are pulled before their results are taken, fewer where those are large. What pulling them raises
            is raised here, after all results before it.
        geometries: of the arrays in each frame; equal ones are made once.
        options: limits, exactness, sampling of animations.
        ahead: the size of the window, in items.
        compare: called with each item's SHA-256; one that it decides is not decoded. Called by any thread.
    """
    workers = decoders.workers
    reader = _Reader(
        lambda item: decoders.submit(item, tuple(geometries), options, compare),
        ahead or AHEAD_PER_WORKER * workers,
        QUEUED_PER_WORKER * workers,
    )
    try:
        reader.start(items)
        while not isinstance(pending := reader.results.get(), StreamEnd):
            yield from pending.result.result()
            reader.on_taken(pending)
        if pending.error is not None:
            raise pending.error
    finally:
        reader.stop()


@dataclass(frozen=True, slots=True)
class _Pending:
    """One item in the window; `encoded` are its bytes."""

    result: Future[Decoded]
    encoded: int = 0


class _Reader:
    """Pulls items in a thread of its own while the window has room, and queues their results in order.

    A thread, because a slow producer of items must not hold back results that are ready. The window limits
    the items that are pulled and not taken yet, those that are not decoded yet, and the bytes of both.
    """

    def __init__(self, submit: Callable[[Item], Future[Decoded]], ahead: int, queued: int) -> None:
        self.results: queue.SimpleQueue[_Pending | StreamEnd] = queue.SimpleQueue()
        self._submit = submit
        self._items, self._queued = ahead, queued  # how many more
        self._encoded = self._decoded = 0  # bytes in the window
        self._stopped = False
        self._changed = threading.Condition()

    def start(self, items: Iterable[Item | Failure]) -> None:
        # A daemon: a producer that never yields again (a terminal) must not keep the program from ending.
        threading.Thread(target=self._pull, args=(items,), name="clipmod-decode-feed", daemon=True).start()

    def on_taken(self, pending: _Pending) -> None:
        """Give back the room of an item that the consumer took."""
        self._count(items=1, encoded=-pending.encoded, decoded=-_pixel_bytes(pending.result))

    def stop(self) -> None:
        """Cancel pending items; the thread ends as soon as its producer yields."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        while not self.results.empty():
            if isinstance(pending := self.results.get(), _Pending):
                pending.result.cancel()

    def _pull(self, items: Iterable[Item | Failure]) -> None:
        self.results.put(feed(items, self._put, self._wait_for_room))

    def _wait_for_room(self) -> bool:
        """Wait for room for one more item; false after `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._has_room())
            self._items -= 1
            return not self._stopped

    def _has_room(self) -> bool:
        return (
            self._items > 0
            and self._queued > 0
            and self._encoded <= MAX_CARRIED_BYTES
            and self._decoded <= MAX_DECODED_BYTES
        )

    def _put(self, item: Item | Failure) -> None:
        if self._stopped:
            return
        if isinstance(item, Failure):
            failed: Future[Decoded] = Future()
            failed.set_result([item])
            self.results.put(_Pending(failed))
            return
        pending = _Pending(self._submit(item), len(item.data or b""))
        self._count(queued=-1, encoded=pending.encoded)
        pending.result.add_done_callback(lambda done: self._count(queued=1, decoded=_pixel_bytes(done)))
        self.results.put(pending)

    def _count(self, *, items: int = 0, queued: int = 0, encoded: int = 0, decoded: int = 0) -> None:
        with self._changed:
            self._items += items
            self._queued += queued
            self._encoded += encoded
            self._decoded += decoded
            self._changed.notify()


def _pixel_bytes(result: Future[Decoded]) -> int:
    if result.cancelled() or result.exception() is not None:
        return 0
    frames = (one for one in result.result() if isinstance(one, Frame))
    return sum(pixels.nbytes for frame in frames for pixels in frame.inputs.values())
