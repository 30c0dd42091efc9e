"""One URL → its bytes, with retries, backoff, and the pauses that hosts ask for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.sources.web.fetch import Fetcher
from clipmod_cli.sources.web.hosts import HostScheduler, TooManyPausesError
from clipmod_cli.sources.web.responses import DownloadedBody


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadPacing:
    """How many downloads run at once, and how often one is retried.

    Attributes:
        concurrency: in all.
        per_host: from one host.
        retries: after 429, 5xx or a failed connection.
        backoff_s: mean wait before the first retry; it doubles with each.
    """

    concurrency: int = 64
    per_host: int = 4
    retries: int = 2
    backoff_s: float = 1.0


class RetryingFetcher:
    """Fetches URLs with retries, within the slots of their hosts."""

    def __init__(self, fetcher: Fetcher, scheduler: HostScheduler, pacing: DownloadPacing) -> None:
        self._fetcher = fetcher
        self._scheduler = scheduler
        self._pacing = pacing

    async def fetch(self, source: str) -> DownloadedBody:
        """Return the body of a URL; raises the FetchError of the last try."""
        tried = 0
        while True:
            try:
                return await self._fetcher.fetch(source, self._slot)
            except FetchError as e:
                if not e.again or tried == self._pacing.retries:
                    raise
                if not e.retry_after_s:  # with it the host is paused, and so is this URL
                    backoff_s = self._pacing.backoff_s * 2**tried
                    await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311
            tried += 1

    @asynccontextmanager
    async def _slot(self, host: str) -> AsyncIterator[None]:
        """Hold a slot of a host, and pause the host for all of its URLs if it asks for that."""
        try:
            async with self._scheduler.slot(host):
                try:
                    yield
                except FetchError as e:
                    if e.retry_after_s and e.status:
                        self._scheduler.pause(host, e.retry_after_s, e.status)
                    elif e.status:
                        self._scheduler.reset_pauses(host)
                    raise
                self._scheduler.reset_pauses(host)
        except TooManyPausesError as e:
            raise FetchError(
                "http_error", "not tried: the host keeps asking for pauses", status=e.status
            ) from e
