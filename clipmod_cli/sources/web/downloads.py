"""Many URLs → Items with their bytes, and Failures, in the order in which they complete.

An event loop in a thread of its own downloads while the consumer's thread judges. A bounded window of the
list is read ahead, so that the URLs of a slow host do not hold up others.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from clipmod_cli.decode.formats import sniff
from clipmod_cli.errors import ItemError
from clipmod_cli.flow import StreamEnd, feed
from clipmod_cli.sources.archives.items import open_input, read_members
from clipmod_cli.sources.base import Skipped, failure
from clipmod_cli.sources.web.addresses import FetchRules
from clipmod_cli.sources.web.errors import FetchError, translate
from clipmod_cli.sources.web.fetch import Fetcher
from clipmod_cli.sources.web.hosts import HostScheduler
from clipmod_cli.sources.web.responses import ByteCounter, DownloadedBody
from clipmod_cli.types import Failure, Item, Media

WINDOW = 10_000
"""URLs that are read ahead of the results taken: a list sorted by host still has other hosts to ask."""

FINISHED_AHEAD = 64
"""Pictures that may wait to be taken before no new download begins: judging takes longer than downloading."""

DEFAULT_NAME = "content"
"""Of the file in a compressed file, where the URL gives no name."""

CLOSE_S = 2.0
"""How long `close` waits for connections to end; after that they end with the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadPacing:
    """How many downloads run at once, and how often one is retried.

    Attributes:
        concurrency: in all.
        per_host: from one host.
        retries: after 429, 5xx or a failed connection.
        backoff_s: mean wait before the first retry; it doubles with each.
        url_s: of one URL with all its tries and waits; None for no such limit.
    """

    concurrency: int = 64
    per_host: int = 4
    retries: int = 2
    backoff_s: float = 1.0
    url_s: float | None = None


_Done: TypeAlias = tuple[Item | Failure, DownloadedBody | None]
"""A result, and the body whose bytes are released when it is taken."""


class Downloads:
    """The results of downloading `items`, to be iterated once, by one thread.

    `close` may be called by any thread at any time; it ends the iteration.
    """

    def __init__(
        self,
        items: Iterable[Item | Failure],
        rules: FetchRules,
        pacing: DownloadPacing | None = None,
        *,
        traffic: ByteCounter | None = None,
        make_fetcher: Callable[..., Fetcher] = Fetcher,
    ) -> None:
        """Start nothing yet; `traffic` counts the bytes received.

        The `source` of each item is a URL; Failures pass through. The items are read in a thread of their
        own; what they raise is raised by the iteration, after all results before it.
        """
        self._items = items
        self._rules = rules
        self._pacing = pacing or DownloadPacing()
        self._make_fetcher = make_fetcher
        self._results: queue.SimpleQueue[_Done | StreamEnd] = queue.SimpleQueue()
        self._window = threading.Semaphore(WINDOW)
        self._closed = threading.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._work, name="clipmod-downloads", daemon=True)
        self._traffic = traffic or ByteCounter()
        self._scheduler = HostScheduler(
            self._pacing.concurrency, self._pacing.per_host, lambda: self._untaken < FINISHED_AHEAD
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._untaken = 0
        self._end: StreamEnd | None = None

    def __iter__(self) -> Iterator[Item | Failure]:
        """Yield one Item or Failure for each item, as they complete."""
        try:
            self._thread.start()
            while isinstance(got := self._results.get(), tuple) and not self._closed.is_set():
                self._window.release()
                result, body = got
                if body is not None:
                    self._call_in_loop(self._release, body)
                yield result
            if isinstance(got, StreamEnd) and got.error is not None:
                raise got.error
        finally:
            self.close()

    def close(self) -> None:
        """Cancel the downloads and end the iteration; returns soon."""
        self._closed.set()
        self._window.release()  # wakes the reader
        self._results.put(StreamEnd())  # wakes the consumer
        if self._thread.is_alive() and self._running.wait(CLOSE_S):
            self._call_in_loop(self._cancelled.set)
            self._thread.join(CLOSE_S)

    def _call_in_loop(self, function: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the reader's thread.

    def _read(self) -> None:
        submit = partial(self._call_in_loop, self._start)
        self._call_in_loop(self._end_reading, feed(self._items, submit, self._has_room))

    def _has_room(self) -> bool:
        self._window.acquire()
        return not self._closed.is_set()

    # In the event loop's thread.

    def _work(self) -> None:
        try:
            asyncio.run(self._download_all())
        except BaseException as e:  # noqa: BLE001 — raised again in the consumer's thread
            self._results.put(StreamEnd(e))

    async def _download_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._cancelled = asyncio.Event()
        self._running.set()
        fetcher = self._make_fetcher(
            self._rules, max_connections=self._pacing.concurrency, traffic=self._traffic
        )
        async with fetcher as self._fetcher:
            threading.Thread(target=self._read, name="clipmod-url-list", daemon=True).start()
            await self._cancelled.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, item: Item | Failure) -> None:
        if isinstance(item, Failure):
            self._results.put((item, None))
        elif not self._cancelled.is_set():
            task = self._loop.create_task(self._download(item))
            self._tasks.add(task)
            task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._end_if_done()

    def _end_reading(self, end: StreamEnd) -> None:
        self._end = end
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._end is not None and not self._tasks:
            self._results.put(self._end)

    def _release(self, body: DownloadedBody) -> None:
        self._fetcher.bodies.release(body)
        self._untaken -= 1
        self._scheduler.dispatch()

    async def _download(self, item: Item) -> None:
        try:
            async with asyncio.timeout(self._pacing.url_s):
                body = await self._fetch(item.source)
        except (Exception, asyncio.CancelledError) as e:  # one result for each URL, whatever happens
            if self._cancelled.is_set():
                raise
            error = translate(e, answered=False)
            self._results.put((failure(replace(item, final_url=error.final_url), error), None))
            return
        self._untaken += 1
        found = replace(item, data=body.data, spilled=body.spilled, final_url=body.final_url)
        self._results.put((found, body))

    async def _fetch(self, source: str) -> DownloadedBody:
        """Return the body of a URL; raises the FetchError of the last try."""
        tried = 0
        while True:
            try:
                return await self._fetcher.fetch(source, self._scheduler.slot)
            except FetchError as e:
                if not e.again or tried == self._pacing.retries:
                    raise
                if not e.retry_after_s:  # with it the host is paused, and so is this URL
                    backoff_s = self._pacing.backoff_s * 2**tried
                    await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311
            tried += 1


def unpack(
    downloads: Iterable[Item | Failure], skipped: Skipped, *, record_unread: bool = True
) -> Iterator[Item | Failure]:
    """Yield the downloads, each archive as its members; at least one result for each.

    An archive is read like one on disk; then its temporary file is removed. All its members have the index
    of its URL. Members that are no inputs are counted in `skipped`; without `record_unread` also those of
    formats that are not read.
    """
    for one in downloads:
        if (
            isinstance(one, Failure)
            or one.spilled is None
            or (archive := open_input(one.spilled, name=_name_of(one.source)).archive) is None
        ):
            yield one
            continue
        whole = replace(one, spilled=None)
        try:
            read = read_members(
                archive, whole, lambda _: None, skipped, named=True, record_unread=record_unread
            )
            with closing(read) as members:
                for result in members:
                    yield _with_download_code(result)
        finally:
            Path(one.spilled).unlink(missing_ok=True)


def _with_download_code(result: Item | Failure) -> Item | Failure:
    """Return a result, `not_an_image` in place of `unsupported_format`, as for all downloads."""
    if isinstance(result, Failure):
        return replace(result, code="not_an_image") if result.code == "unsupported_format" else result
    if not result.data or sniff(result.data) is not None:
        return result
    error = ItemError("not_an_image", "the member is not an image, whatever its name")
    media = Media(started=time.perf_counter(), bytes=len(result.data))
    return failure(replace(result, data=None), error, media)


def _name_of(url: str) -> str:
    """Return the file name of a URL: the end of its path."""
    path = unquote(urlsplit(url).path).partition("\0")[0]
    return PurePosixPath(path).name or DEFAULT_NAME
