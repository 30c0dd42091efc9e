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
"""Timeout of a ping, and how long its answer is reused: a merge may take as long."""


class HistoryStatus(NamedTuple):
    """The result of a ping."""

    connected: bool
    response_time_ms: float


@dataclass
class HistoryPing:
    """Pings the history store; concurrent callers share one ping."""

    store: HistoryStore | None
    _last: tuple[float, HistoryStatus] | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _pinging: threading.Lock = field(default_factory=threading.Lock, repr=False)

    async def check(self) -> HistoryStatus:
        """Return whether the store answers, and how fast; cached for `PING_S`."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > PING_S:
                self._last = (time.monotonic(), await self._ping())
            return self._last[1]

    async def _ping(self) -> HistoryStatus:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(PING_S):
                answered = await to_thread.run_sync(self._query, abandon_on_cancel=True)
        except TimeoutError:
            answered = False
        return HistoryStatus(answered, round((time.perf_counter() - start) * 1000, 3))

    def _query(self) -> bool:
        if self.store is None or not self._pinging.acquire(blocking=False):
            return False  # the last ping still waits
        try:
            return bool(self.store.query("SELECT 1").rows)
        except (ClipmodError, OSError):
            return False
        finally:
            self._pinging.release()


@dataclass
class ServiceStorage:
    """All storage.

    Attributes:
        stood_in: the last picture was judged by the fallback in place of the configured models.
        deleted: the ids of hosted pictures whose rows are still in the store.
    """

    hosting: HostedPictures | None
    predictions: Predictions | None
    store: HistoryStore | None
    ping: HistoryPing
    stood_in: bool = False
    deleted: set[str] = field(default_factory=set)
    _forgetting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def delete_picture(self, image_id: str, rows: HistoryRun) -> bool:
        """Remove a hosted picture, its prediction file and its row; return whether there was one. Blocks.

        Raises:
            OSError: the picture cannot be removed.
        """
        if self.hosting is None or not self.hosting.delete(image_id):
            return False
        if self.predictions is not None:
            self.predictions.remove_of(image_id)
        if self.store is not None:
            self.deleted.add(image_id)
            rows.flush()
            self.forget_rows(self.store)
        return True

    def forget_rows(self, store: HistoryStore) -> None:
        """Erase the rows of all deleted pictures; what the store refuses is tried again at each sweep."""
        with self._forgetting:
            ids = self.deleted.copy()
            try:
                if ids:
                    store.forget_hosted(ids)
                self.deleted -= ids
            except (ClipmodError, OSError) as e:
                log.warning("rows of %d deleted pictures are still in the statistics: %s", len(ids), e)

    def sweep(self) -> None:
        """Remove expired files; blocks."""
        if self.hosting is not None:
            self.hosting.sweep()
        if self.predictions is not None:
            self.predictions.sweep()
        if self.store is not None:
            self.forget_rows(self.store)


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
        if storage.store is not None and storage.deleted:
            await to_thread.run_sync(storage.forget_rows, storage.store)


def _open(settings: Settings) -> ServiceStorage:
    store = None if settings.no_db else history_store(settings)
    return ServiceStorage(hosting_of(settings), predictions_of(settings), store, HistoryPing(store))


async def _sweep(storage: ServiceStorage) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await to_thread.run_sync(storage.sweep)
