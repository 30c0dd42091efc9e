"""The stage: items → frames and failures, decoded ahead, in the items' order.

Who decodes is `decoders`; here is how far ahead of its consumer a stream is decoded.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from clipmod_cli.decode.decoders import Decoded, Decoders
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.flow import StreamEnd, feed
from clipmod_cli.types import Failure, Frame, Item, View

AHEAD_PER_WORKER = 4
"""Items in the window for each worker, unless the caller says how many: the caller knows its batches
(two of them keep a device fed), this only keeps the workers busy."""

MAX_CARRIED_BYTES = 100_000_000
"""Of bytes that the items in the window carry: once they are over it, none is pulled. Two of the
largest allowed: by the time that one of those is decoded, the next is there."""

MAX_DECODED_BYTES = 500_000_000
"""Of decoded pixels in the window: once they are over it, no item is pulled. A still is a few hundred
kilobytes and a film of 256 frames 40 million."""

QUEUED_PER_WORKER = 2
"""Items that are still to be decoded: what a worker has in hand, and its next one. All of the window may
turn out to be films, and how large an item will be is only known when it is decoded."""

Work = Callable[[Item], "Future[Decoded]"]


@dataclass(frozen=True, slots=True)
class _Place:
    """One item's place in the window; `bytes` are those that it carries."""

    result: Future[Decoded]
    bytes: int = 0


class _Window:
    """Room for what was pulled and not yet taken: items, the bytes that they carry, and their pixels."""

    def __init__(self, items: int, queued: int) -> None:
        self._items = items
        self._queued = queued
        self._bytes = self._decoded = 0
        self._left = False
        self._changed = threading.Condition()

    def wait(self) -> bool:
        """Return true as soon as there is room for one more item, false if nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._left or self._has_room())
            self._items -= 1
            return not self._left

    def carry(self, size: int) -> None:
        """Note the bytes of the item that the room was for, which is now to be decoded."""
        with self._changed:
            self._queued -= 1
            self._bytes += size

    def decoded(self, result: Future[Decoded]) -> None:
        """Note that an item was decoded, and the pixels that wait to be taken."""
        with self._changed:
            self._queued += 1
            self._decoded += _pixel_bytes(result)
            self._changed.notify()

    def give(self, place: _Place) -> None:
        """Note that an item was taken, and its bytes and pixels with it."""
        with self._changed:
            self._items += 1
            self._bytes -= place.bytes
            self._decoded -= _pixel_bytes(place.result)
            self._changed.notify()

    def _has_room(self) -> bool:
        return (
            self._items > 0
            and self._queued > 0
            and self._bytes <= MAX_CARRIED_BYTES
            and self._decoded <= MAX_DECODED_BYTES
        )

    def leave(self) -> None:
        """Note that nobody reads any more."""
        with self._changed:
            self._left = True
            self._changed.notify()


def _pixel_bytes(result: Future[Decoded]) -> int:
    """Return the size of the pixels of one item, once it is decoded; 0 if it never was."""
    if result.cancelled() or result.exception() is not None:
        return 0
    frames = (one for one in result.result() if isinstance(one, Frame))
    return sum(pixels.nbytes for frame in frames for pixels in frame.views.values())


class _Line:
    """Pulls items in a thread of its own, and keeps their results in order.

    Its own thread, because a slow producer of items must not hold back results that are ready.
    """

    def __init__(self, items: Iterable[Item | Failure], ahead: int, queued: int) -> None:
        self.results: queue.SimpleQueue[_Place | StreamEnd] = queue.SimpleQueue()
        self.window = _Window(ahead, queued)
        self._items = items
        self._left = threading.Event()

    def start(self, work: Work) -> None:
        """Begin to pull items and to have them decoded by `work`."""
        # A daemon: a producer that never yields again (a terminal) must not keep the program from ending.
        threading.Thread(target=self._pull, args=(work,), name="clipmod-decode-feed", daemon=True).start()

    def leave(self) -> None:
        """Let the thread end as soon as its producer yields; nobody reads any more."""
        self._left.set()
        self.window.leave()
        while not self.results.empty():
            if isinstance(place := self.results.get(), _Place):
                place.result.cancel()

    def _pull(self, work: Work) -> None:
        self.results.put(feed(self._items, partial(self._submit, work), self.window.wait))

    def _submit(self, work: Work, item: Item | Failure) -> None:
        if self._left.is_set():
            return
        if isinstance(item, Failure):
            self.results.put(_already(item))
            return
        size = len(item.data or b"")
        self.window.carry(size)
        place = _Place(work(item), size)
        place.result.add_done_callback(self.window.decoded)
        self.results.put(place)


def _already(failure: Failure) -> _Place:
    """Return the result of an item that its source could not get hold of."""
    future: Future[Decoded] = Future()
    future.set_result([failure])
    return _Place(future)


def decode(
    items: Iterable[Item | Failure],
    views: Sequence[View],
    options: DecodeOptions,
    workers: int,
    *,
    ahead: int | None = None,
    crew: WorkerPool | None = None,
) -> Iterator[Frame | Failure]:
    """Yield what `decode_with` yields, by decoders that end with the stream.

    Args:
        items: what to decode.
        views: the geometries of the arrays in each frame.
        options: limits, exactness, sampling of animations.
        workers: how many items are decoded at once.
        ahead: the size of the window, in items.
        crew: worker processes that decode behind the threads. None decodes in this process.
    """
    most = options.limits.pixels_in_flight
    with (
        Decoders(workers, crew=crew, pixels_in_flight=most) as decoders,
        closing(decode_with(decoders, items, views, options, ahead=ahead)) as decoded,
    ):
        yield from decoded


def decode_with(
    decoders: Decoders,
    items: Iterable[Item | Failure],
    views: Sequence[View],
    options: DecodeOptions,
    *,
    ahead: int | None = None,
) -> Generator[Frame | Failure, None, None]:
    """Yield the frames and failures of `items`, in their order; lazy.

    Args:
        decoders: may serve other streams at the same time; what of this stream has not begun when it
            is closed never does.
        items: what to decode; a source's own failures pass through in their place. At most `ahead`
            are pulled before their results are taken, fewer where those are large. What pulling them raises
            is raised here, after all results before it.
        views: the geometries of the arrays in each frame; equal ones are made once.
        options: limits, exactness, sampling of animations.
        ahead: the size of the window, in items.
    """
    workers = decoders.workers
    line = _Line(items, ahead or AHEAD_PER_WORKER * workers, QUEUED_PER_WORKER * workers)
    try:
        line.start(lambda item: decoders.submit(item, tuple(views), options))
        while not isinstance(place := line.results.get(), StreamEnd):
            yield from place.result.result()
            line.window.give(place)
        if place.error is not None:
            raise place.error
    finally:
        line.leave()
