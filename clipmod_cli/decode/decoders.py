"""Who decodes: a few threads, each with a worker process of its own where that is wanted, and their budget.

One set may serve many streams at once (`pool`), so that a service does not start processes for each
request. What one item does is `picture.decode_item`, which knows nothing of this.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self, TypeAlias

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeLimits, DecodeOptions
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.types import Failure, Frame, Item, View

FEW_BYTES = 100_000
"""Items that carry less keep their bytes: all that are in flight come to a few tens of megabytes."""

FREE_PIXELS = 5_000_000
"""A scaled photograph takes less than a million and a screenshot of 1920 x 1080 four, so that nearly
nobody has to ask and wait; 16 workers with so many leave more than half of the budget to those who do."""

Decoded: TypeAlias = list[Frame | Failure]


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


class Decoders:
    """Decodes items for anybody, in the order in which they are handed in. Safe to use from any thread."""

    def __init__(
        self, workers: int, *, crew: WorkerPool | None = None, pixels_in_flight: int | None = None
    ) -> None:
        """Start nothing yet.

        Args:
            workers: how many items are decoded at once.
            crew: worker processes behind the threads, ended by `close`; None decodes in this process.
            pixels_in_flight: that all of them together may be decoding; default that of `DecodeLimits`.
        """
        self.workers = workers
        self._crew = crew
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="clipmod-decode")
        most = pixels_in_flight or DecodeLimits().pixels_in_flight
        self._free = free_pixels(most, workers) if crew is not None else 0
        self._gate = PixelBudget(most - workers * self._free).hold

    def submit(self, item: Item, views: Sequence[View], options: DecodeOptions) -> Future[Decoded]:
        """Return what will be the frames and failures of the item.

        Raises:
            RuntimeError: after `close`.
        """
        return self._executor.submit(self._decode, item, views, options)

    def close(self) -> None:
        """Let nothing more begin; worker processes end at once, also in the midst of an item."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        if self._crew is not None:
            self._crew.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _decode(self, item: Item, views: Sequence[View], options: DecodeOptions) -> Decoded:
        if self._crew is None:
            work = partial(decode_item, gate=self._gate)
        else:
            work = partial(self._crew.decode_item, gate=self._gate, free_pixels=self._free)
        return _let_go(item, work(item, views, options))


def free_pixels(most: int, workers: int) -> int:
    """Return how many pixels of a budget of `most` each worker process has for itself, without asking.

    At most half of the budget is given out so; what is asked for comes out of the rest.
    """
    return min(FREE_PIXELS, most // (2 * workers))


def _let_go(item: Item, decoded: Decoded) -> Decoded:
    """Return the results without the item's bytes, if those are many.

    What follows holds some hundred frames at once. Only a video is ever looked at again.
    """
    if item.data is None or len(item.data) < FEW_BYTES:
        return decoded
    if any(isinstance(one, Frame) and one.media.kind == "video" for one in decoded):
        return decoded
    bare = replace(item, data=None)
    return [replace(one, item=bare) for one in decoded]
