"""Storage of the service: hosted pictures, prediction files, the history store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from anyio import to_thread

from clipmod_cli.errors import ClipmodError
from clipmod_cli.output.history.run import HistoryRun, history_store
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.server.hosting.pictures import HostedPictures, hosting_of
from clipmod_cli.server.hosting.predictions import Predictions, predictions_of
from clipmod_cli.settings.definition import Settings

log = logging.getLogger(__name__)

SWEEP_S: Final = 60.0
"""Interval of removing expired files and counting those of other processes. Reading checks the expiry."""

PING_S: Final = 2.0
"""Timeout of a ping, and how long its answer is reused."""


class HistoryStatus(NamedTuple):
    """The result of a ping."""

    connected: bool
    response_time_ms: float


@dataclass
class HistoryPing:
    """Pings the statistics: reads from the files, and tries whether a row can be added.

    Concurrent callers share one ping.
    """

    store: HistoryStore | None
    _last: tuple[float, HistoryStatus] | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _pinging: threading.Lock = field(default_factory=threading.Lock, repr=False)

    async def check(self, rows: HistoryRun) -> HistoryStatus:
        """Return whether the statistics can be read and written, and how fast; cached for `PING_S`."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > PING_S:
                self._last = (time.monotonic(), await self._ping(rows))
            return self._last[1]

    async def _ping(self, rows: HistoryRun) -> HistoryStatus:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(PING_S):
                answered = await to_thread.run_sync(self._try, rows, abandon_on_cancel=True)
        except TimeoutError:
            answered = False
        return HistoryStatus(answered, round((time.perf_counter() - start) * 1000, 3))

    def _try(self, rows: HistoryRun) -> bool:
        if self.store is None or not self._pinging.acquire(blocking=False):
            return False  # the last ping still waits
        try:
            rows.check()
            self.store.ping()
        except (ClipmodError, OSError) as e:
            log.debug("the statistics cannot be used: %s", e)
            return False
        else:
            return True
        finally:
            self._pinging.release()


@dataclass
class ServiceStorage:
    """All storage.

    Attributes:
        stood_in: the last picture was judged by the fallback in place of the configured models.
    """

    hosting: HostedPictures | None
    predictions: Predictions | None
    store: HistoryStore | None
    ping: HistoryPing
    stood_in: bool = False

    def delete_picture(self, image_id: str) -> bool:
        """Remove a hosted picture and its prediction file; return whether there was one. Blocks.

        Raises:
            OSError: the picture cannot be removed.
        """
        if self.hosting is None or not self.hosting.delete(image_id):
            return False
        if self.predictions is not None:
            self.predictions.remove_of(image_id)
        return True

    def sweep(self) -> None:
        """Remove expired files; blocks."""
        if self.hosting is not None:
            self.hosting.sweep()
        if self.predictions is not None:
            self.predictions.sweep()


@asynccontextmanager
async def open_storage(settings: Settings) -> AsyncIterator[ServiceStorage]:
    """Give the storage, and delete expired files from it every minute for the time of the block."""
    storage = await to_thread.run_sync(_open, settings)
    sweeper = asyncio.create_task(_sweep(storage))
    try:
        yield storage
    finally:
        sweeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sweeper


def _open(settings: Settings) -> ServiceStorage:
    store = None if settings.no_db else history_store(settings)
    hosting = hosting_of(settings)
    if store is not None and hosting is not None:
        try:
            store.register()
        except ClipmodError as e:
            log.warning("hosted pictures are missing from the statistics: %s", e)
    return ServiceStorage(hosting, predictions_of(settings), store, HistoryPing(store))


async def _sweep(storage: ServiceStorage) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await to_thread.run_sync(storage.sweep)
