"""HTTP responses: their headers, and the reading of bodies within limits.

Declared lengths are hints for reserving memory; limits count the bytes received.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpcore2

from clipmod_cli.decode.formats import HEAD_BYTES, kind_of
from clipmod_cli.decode.unread import sniff_unread
from clipmod_cli.sources.spill import SpillFolder
from clipmod_cli.sources.web.addresses import FetchRules
from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.sources.web.hosts import DownloadBudget

REDIRECTS = frozenset({301, 302, 303, 307, 308})
BODIES = frozenset({200, 203})
"""A 206 is a part that was not requested; other statuses of success have no picture."""

PAUSING = frozenset({429, 503})
"""Their `Retry-After` holds for the whole host."""

AGAIN = frozenset({429, *range(500, 600)})
"""Statuses that are retried within the run; 408 and 425 are for a later run."""

MAX_RETRY_AFTER_S = 60.0
"""A longer `Retry-After` is cut to this."""

_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,40}", re.IGNORECASE | re.ASCII)
_TOKEN = re.compile(r"[a-z0-9-]{1,20}", re.IGNORECASE | re.ASCII)


def declared_length(response: httpcore2.Response) -> int | None:
    """Return the length in bytes that the server announced."""
    text = read_header(response, "content-length")
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


def status_error(response: httpcore2.Response) -> FetchError:
    """Return the error for the status of a response."""
    status = response.status
    phrase = next((f" ({known.phrase})" for known in HTTPStatus if known == status), "")
    return FetchError(
        "http_error",
        f"the server answered {status}{phrase}",
        status=status,
        again=status in AGAIN,
        retry_after_s=_retry_after(response) if status in PAUSING else None,
    )


def not_an_image(response: httpcore2.Response, head: bytes) -> FetchError:
    """Return the error for a body that is no picture, no video and no archive that can be read."""
    if not head:
        return FetchError("empty_file", "the server sent no bytes")
    encoding = _encoding(response)
    if encoding != "identity":
        how = f" ({encoding})" if _TOKEN.fullmatch(encoding) else ""
        return FetchError(
            "not_an_image", f"the server sent its answer compressed{how}, which was not requested"
        )
    if (unread := sniff_unread(head)) is not None and unread.counted_as is None:
        return FetchError("not_an_image", f"the server sent no picture: {unread.error().message}")
    kind = (read_header(response, "content-type") or "").partition(";")[0].strip()
    called = f" but {kind}" if _TYPE.fullmatch(kind) else ""
    return FetchError("not_an_image", f"the server sent no picture{called}")


def _encoding(response: httpcore2.Response) -> str:
    return (read_header(response, "content-encoding") or "identity").strip().lower()


def read_header(response: httpcore2.Response, name: str) -> str | None:
    """Return the first header of this name (in lower case), None if there is none."""
    key = name.encode()
    found = next((value for given, value in response.headers if given.lower() == key), None)
    if found is None:
        return None
    try:
        return found.decode()
    except UnicodeDecodeError:
        return found.decode("latin-1")


def _retry_after(response: httpcore2.Response) -> float | None:
    """Return the seconds of `Retry-After`, a number or a date; at most the limit."""
    text = read_header(response, "retry-after")
    if text is None:
        return None
    try:
        if text.strip().isdigit():
            return float(min(int(text), MAX_RETRY_AFTER_S))
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


MEMORY_BYTES = 512_000_000
"""Of bodies, from the moment that memory is reserved for them until they are taken."""

SPILL_BYTES = 4_000_000_000
"""Of all temporary files that were not taken yet: eight of the largest videos that are allowed."""

SMALL_BYTES = 262_144
"""Reserved for a body of unknown length until it proves longer; most pictures of the web do not."""

DRAIN_BYTES, DRAIN_S = 65_536, 1.0
"""The unused rest of an answer is read up to these limits: cheaper than a new connection."""


@dataclass(slots=True)
class ByteCounter:
    """Bytes of bodies received. One thread counts, any may read."""

    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadedBody:
    """The bytes of a picture, or the temporary file of a video or an archive.

    Attributes:
        size: in bytes; to be released to the reader.
        final_url: the last URL of the redirects; None without any.
    """

    data: bytes | None = field(default=None, repr=False)
    spilled: str | None = None
    size: int
    final_url: str | None = None


class BodyReader:
    """Reads bodies within the limits of `rules`, and counts the bytes received.

    Attributes:
        memory: budget of pictures in memory.
        spill_budget: of the temporary files of videos and archives.
    """

    def __init__(self, rules: FetchRules, traffic: ByteCounter) -> None:
        self.rules = rules
        self.traffic = traffic
        self.memory = DownloadBudget(max(MEMORY_BYTES, 2 * rules.max_bytes))
        self.spill_budget = DownloadBudget(SPILL_BYTES)
        self._folder = SpillFolder()

    def release(self, body: DownloadedBody) -> None:
        """Give back the bytes of a body that was taken."""
        budget = self.memory if body.spilled is None else self.spill_budget
        budget.release(body.size)

    async def read(
        self, response: httpcore2.Response, chunks: AsyncIterator[bytes], clock: asyncio.Timeout
    ) -> DownloadedBody:
        """Return the body of an answer, its size acquired until `release`.

        The clock is stopped while waiting for a budget, and set again for a video or an archive.

        Raises:
            ItemError: `empty_file`, `not_an_image`, `download_too_large`; `internal_error` for a full disk.
        """
        declared = declared_length(response)
        head = await _read_head(chunks, stop_early=(declared or 0) > self.rules.max_bytes)
        self.traffic.bytes += len(head)
        kind = kind_of(head, "")
        # what begins like an archive may be another body, compressed for transfer
        archive = _encoding(response) == "identity"
        if kind is None or (kind == "archive" and not (self.rules.archives and archive)):
            await drain(response, chunks)
            raise not_an_image(response, head)
        limit = self.rules.max_bytes if kind == "picture" else self.rules.video_bytes
        if max(declared or 0, len(head)) > limit:
            raise _too_large(limit)
        if kind != "picture":
            clock.reschedule(asyncio.get_running_loop().time() + self.rules.video_s)
            return await self._spill(head, chunks, declared or limit, clock)
        return await self._hold(head, chunks, declared, clock)

    async def _hold(
        self, head: bytes, chunks: AsyncIterator[bytes], declared: int | None, clock: asyncio.Timeout
    ) -> DownloadedBody:
        """Return a picture in memory; if that succeeds, its size stays acquired."""
        limit = self.rules.max_bytes
        held = min(declared or SMALL_BYTES, limit)
        kept = 0
        await _untimed(clock, self.memory.acquire(held))
        try:
            data = bytearray(head)
            async for chunk in chunks:
                data += chunk
                self.traffic.bytes += len(chunk)
                if len(data) > limit:
                    raise _too_large(limit)
                if len(data) > held:
                    await _untimed(clock, self.memory.acquire(limit - held))
                    held = limit
            kept = len(data)
            return DownloadedBody(data=bytes(data), size=kept)
        finally:
            self.memory.release(held - kept)

    async def _spill(
        self, head: bytes, chunks: AsyncIterator[bytes], most: int, clock: asyncio.Timeout
    ) -> DownloadedBody:
        """Return a video or an archive in a temporary file; if that succeeds, its size stays acquired."""
        kept = 0
        await _untimed(clock, self.spill_budget.acquire(most))
        try:
            with self._folder.new_file() as file:
                file.write(head)
                written = len(head)
                async for chunk in chunks:
                    written += len(chunk)
                    self.traffic.bytes += len(chunk)
                    if written > most:
                        raise _too_large(self.rules.video_bytes)
                    file.write(chunk)
            kept = written
            return DownloadedBody(spilled=file.path, size=kept)
        finally:
            self.spill_budget.release(most - kept)


def time_left(clock: asyncio.Timeout) -> float:
    """Return the seconds that a clock has left."""
    until = clock.when()
    return 0.0 if until is None else until - asyncio.get_running_loop().time()


async def _untimed(clock: asyncio.Timeout, waiting: Awaitable[None]) -> None:
    """Wait with the clock stopped: this wait is not the server's fault."""
    left = time_left(clock)
    clock.reschedule(None)
    await waiting
    clock.reschedule(asyncio.get_running_loop().time() + left)


async def _read_head(chunks: AsyncIterator[bytes], *, stop_early: bool) -> bytes:
    """Return the first bytes: enough to recognise a format, or all there are.

    With `stop_early`, no more than show that it is a picture: it is too large, whatever follows.
    """
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= HEAD_BYTES or (stop_early and kind_of(head, "") == "picture"):
            break
    return head


async def drain(response: httpcore2.Response, chunks: AsyncIterator[bytes]) -> None:
    """Read the rest of a short answer, so that its connection can be reused."""
    declared = declared_length(response)
    if declared is None or declared > DRAIN_BYTES:
        return
    with contextlib.suppress(Exception):
        async with asyncio.timeout(DRAIN_S):
            async for _ in chunks:
                pass


def _too_large(limit: int) -> FetchError:
    return FetchError("download_too_large", f"the download is larger than the limit of {limit / 1e6:g} MB")
