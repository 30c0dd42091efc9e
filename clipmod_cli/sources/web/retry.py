"""One URL → its bytes after as many tries as it takes: waits its turn, backs off, heeds a host's pauses."""

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
    """How many downloads at once, and how often one is tried again.

    Attributes:
        concurrency: in all.
        per_host: from one host.
        retries: after a refusal that may pass: 429, 5xx, no connection.
        backoff_s: about how long is waited before the first of them; twice as long before the next.
    """

    concurrency: int = 64
    per_host: int = 4
    retries: int = 2
    backoff_s: float = 1.0


class RetryingFetcher:
    """Fetches URLs as often as the pace allows and not before it is their host's turn."""

    def __init__(self, fetcher: Fetcher, turns: HostScheduler, pace: DownloadPacing) -> None:
        """Ask through `fetcher`, whenever `turns` says so."""
        self._fetcher = fetcher
        self._turns = turns
        self._pace = pace

    async def fetch(self, source: str) -> DownloadedBody:
        """Return what a URL gives.

        Raises:
            FetchError: that of the last try.
        """
        tried = 0
        while True:
            try:
                return await self._fetcher.fetch(source, self._turn)
            except FetchError as e:
                if not e.again or tried == self._pace.retries:
                    raise
                if not e.retry_after_s:  # else the host is paused, which makes this wait as well
                    await asyncio.sleep(self._pace.backoff_s * 2**tried * random.uniform(0.5, 1.5))  # noqa: S311
            tried += 1

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncIterator[None]:
        """Hold a turn with a host, and let its answer pause it for all of its URLs."""
        try:
            async with self._turns.take(host):
                try:
                    yield
                except FetchError as e:
                    self._heed(host, e)
                    raise
                self._turns.answered(host)
        except TooManyPausesError as e:
            raise FetchError("http_error", "not tried: the host always asks for a pause", status=e.why) from e

    def _heed(self, host: str, error: FetchError) -> None:
        if error.retry_after_s and error.status:
            self._turns.pause(host, error.retry_after_s, error.status)
        elif error.status:
            self._turns.answered(host)
