"""Decoding in worker processes: a decoder that crashes, hangs or eats memory costs one record.

Each decoding thread of `pool` has one process to itself (`seat`) and talks with it over a pipe.
What comes back is JSON and raw pixels, never a pickle: a worker that was taken over by what it
decoded can send wrong pixels, but nothing that is run here. What the process does is `worker`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.job import Gate
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.views import modules_for
from clipmod_cli.decode.workers.child import DecodeRequest, WorkerLimits
from clipmod_cli.decode.workers.handle import WorkerHandle
from clipmod_cli.types import Failure, Frame, Item, View

Work = Callable[..., list[Frame | Failure]]

WATCH_EVERY_S = 0.25
"""How late the end of an overdue worker may come."""


@dataclass
class WorkerPool:
    """The worker processes, one for each thread that calls `decode_item`."""

    limits: WorkerLimits = field(default_factory=WorkerLimits)
    work: Work = decode_item
    _local: threading.local = field(default_factory=threading.local, repr=False)
    _seats: list[WorkerHandle] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _closed: threading.Event = field(default_factory=threading.Event, repr=False)

    def decode_item(
        self,
        item: Item,
        views: Sequence[View],
        options: DecodeOptions,
        *,
        gate: Gate,
        free_pixels: int = 0,
    ) -> list[Frame | Failure]:
        """Return what `picture.decode_item` returns for the item, made in a process of its own.

        A worker that dies is `decode_crash`, one that is too slow `decode_timeout`; the next item
        gets a new one. For more than `free_pixels` at once it asks `gate`.
        """
        seat: WorkerHandle | None = getattr(self._local, "seat", None)
        if seat is None:
            seat = self._local.seat = self._take_seat(views)
        orders = DecodeRequest(views=tuple(views), options=options, free_pixels=free_pixels)
        return seat.decode(item, orders, gate)

    def close(self) -> None:
        """End all workers, also those in the midst of an item."""
        self._closed.set()
        with self._lock:
            for seat in self._seats:
                seat.dismiss()

    def _take_seat(self, views: Sequence[View]) -> WorkerHandle:
        seat = WorkerHandle(self.limits, self.work, modules_for(views))
        with self._lock:
            self._seats.append(seat)
            if self._closed.is_set():
                seat.dismiss()
            if len(self._seats) == 1:
                threading.Thread(target=self._watch, name="clipmod-decode-watch", daemon=True).start()
        return seat

    def _watch(self) -> None:
        """Keep the time of all items, so that no worker can hold its thread by falling silent."""
        while not self._closed.wait(WATCH_EVERY_S):
            now = time.monotonic()
            for seat in list(self._seats):
                seat.end_if_overdue(now)
