"""What a server's answer says of itself: status, length, where to go on, when to come back.

Reads headers only. Lengths are hints for room; what is counted is counted elsewhere.
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

from clipmod_cli.decode.formats import HEAD_BYTES, MediaClass, class_of, sniff
from clipmod_cli.sources.archives.walk import UNREAD
from clipmod_cli.sources.spill import SpillFolder
from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.sources.web.hosts import DownloadBudget

REDIRECTS = frozenset({301, 302, 303, 307, 308})
BODIES = frozenset({200, 203})
"""A 206 that nobody asked for is a part of a picture, and other answers of success have none."""

PAUSING = frozenset({429, 503})
"""Their `Retry-After` speaks for the whole host."""

AGAIN = frozenset({429, *range(500, 600)})
"""Answers that are worth asking for again at once; 408 and 425 are for a later run."""

MAX_RETRY_AFTER_S = 60.0
"""No server can make a run wait longer than this at a time."""

_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,40}", re.IGNORECASE | re.ASCII)
_TOKEN = re.compile(r"[a-z0-9-]{1,20}", re.IGNORECASE | re.ASCII)


def is_body(response: httpcore2.Response) -> bool:
    """Return whether what follows may be a picture."""
    return response.status in BODIES


def declared_length(response: httpcore2.Response) -> int | None:
    """Return the length in bytes that the server announced."""
    text = read_header(response, "content-length")
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


def read_location(response: httpcore2.Response) -> str | None:
    """Return where a redirect leads, as the server wrote it; None if this is no redirect."""
    return read_header(response, "location") if response.status in REDIRECTS else None


def wrong_status(response: httpcore2.Response) -> FetchError:
    """Return the error that an answer with this status is."""
    status = response.status
    phrase = next((f" ({known.phrase})" for known in HTTPStatus if known == status), "")
    return FetchError(
        "http_error",
        f"the server answered {status}{phrase}",
        status=status,
        again=status in AGAIN,
        retry_after_s=_retry_after(response) if status in PAUSING else None,
    )


def may_be_archive(response: httpcore2.Response, head: bytes) -> bool:
    """Return whether a body that begins as an archive does is one that can be read.

    One that a server has compressed on the way begins so too, and nobody asked for that.
    """
    return _encoding(response) == "identity" and sniff(head) not in UNREAD


def no_picture(response: httpcore2.Response, head: bytes) -> FetchError:
    """Return the error that a body is which is no picture, no video and no archive that is read."""
    if not head:
        return FetchError("empty_file", "the server sent no bytes")
    encoding = _encoding(response)
    if encoding != "identity":
        how = f" ({encoding})" if _TOKEN.fullmatch(encoding) else ""
        return FetchError("not_an_image", f"the server sent it compressed{how}, which was not asked for")
    if kind_of_archive := UNREAD.get(sniff(head) or ""):
        return FetchError("not_an_image", f"the server sent a {kind_of_archive} archive, which is not read")
    kind = (read_header(response, "content-type") or "").partition(";")[0].strip()
    called = f", but what it calls {kind}" if _TYPE.fullmatch(kind) else ""
    return FetchError("not_an_image", f"the server sent no picture{called}")


def _encoding(response: httpcore2.Response) -> str:
    return (read_header(response, "content-encoding") or "identity").strip().lower()


def read_header(response: httpcore2.Response, name: str) -> str | None:
    """Return the first header of this name (in lower case), None if there is none."""
    wanted = name.encode()
    found = next((value for key, value in response.headers if key.lower() == wanted), None)
    if found is None:
        return None
    try:
        return found.decode()
    except UnicodeDecodeError:
        return found.decode("latin-1")


def _retry_after(response: httpcore2.Response) -> float | None:
    """Return the wait that is asked for, as a number or a date, in seconds; never more than the limit."""
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


SMALL_BYTES = 262_144
"""Held for a body of unknown length until it proves longer; most pictures of the web are not."""

DRAINED_BYTES = 65_536
"""The rest of an answer that nobody needs is read up to this length: cheaper than a new connection."""

DRAIN_S = 1.0
"""For no longer than this."""


@dataclass(slots=True)
class ByteCounter:
    """How many bytes of bodies have come. One thread counts, any may look."""

    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadedBody:
    """What a URL gave: a picture's bytes, or a video or an archive in a temporary file.

    Attributes:
        size: in bytes; to be given back to the reader's memory, or its folder's room.
        final_url: where redirects led; None without any.
    """

    data: bytes | None = field(default=None, repr=False)
    spilled: str | None = None
    size: int
    final_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyReader:
    """Reads bodies within their limits.

    Attributes:
        memory: what pictures are held in; larger than `max_bytes`.
        folder: where videos and archives go.
        max_bytes: of a picture.
        video_bytes: of a video or an archive.
        video_s: for one of these, from the moment that it is known to be one.
        archives: are wanted too.
        traffic: counts what comes.
    """

    memory: DownloadBudget
    folder: SpillFolder
    max_bytes: int
    video_bytes: int
    video_s: float
    archives: bool
    traffic: ByteCounter

    async def read(
        self, response: httpcore2.Response, chunks: AsyncIterator[bytes], clock: asyncio.Timeout
    ) -> DownloadedBody:
        """Return what an answer carries that can be judged, its size taken out of memory or room.

        Args:
            response: its headers.
            chunks: its bytes as they come.
            clock: stops while room is waited for, and is set anew for a video or an archive.

        Raises:
            FetchError: `empty_file`, `not_an_image`, `download_too_large`; `internal_error` for a full disk.
        """
        declared = declared_length(response)
        head = await _read_head(chunks, hurry=(declared or 0) > self.max_bytes)
        self.traffic.bytes += len(head)
        kind = _kind_of(head)
        if kind is None or (kind == "archive" and not (self.archives and may_be_archive(response, head))):
            await drain(response, chunks)
            raise no_picture(response, head)
        limit = self.max_bytes if kind == "picture" else self.video_bytes
        if max(declared or 0, len(head)) > limit:
            raise _too_large(limit)
        if kind != "picture":
            clock.reschedule(asyncio.get_running_loop().time() + self.video_s)
            return await self._spill(head, chunks, declared or limit, clock)
        return await self._hold(head, chunks, declared, clock)

    async def _hold(
        self, head: bytes, chunks: AsyncIterator[bytes], declared: int | None, clock: asyncio.Timeout
    ) -> DownloadedBody:
        """Return a picture. Its bytes are taken out of the memory, and stay so if all went well."""
        limit = self.max_bytes
        held = min(declared or SMALL_BYTES, limit)
        kept = 0
        await _untimed(clock, self.memory.take(held))
        try:
            data = bytearray(head)
            async for chunk in chunks:
                data += chunk
                self.traffic.bytes += len(chunk)
                if len(data) > limit:
                    raise _too_large(limit)
                if len(data) > held:
                    await _untimed(clock, self.memory.take(limit - held))
                    held = limit
            kept = len(data)
            return DownloadedBody(data=bytes(data), size=kept)
        finally:
            self.memory.give(held - kept)

    async def _spill(
        self, head: bytes, chunks: AsyncIterator[bytes], most: int, clock: asyncio.Timeout
    ) -> DownloadedBody:
        """Return a video or an archive in a file of the folder, whose room it has taken."""
        kept = 0
        await _untimed(clock, self.folder.room.take(most))
        try:
            with self.folder.new_file() as file:
                file.write(head)
                written = len(head)
                async for chunk in chunks:
                    written += len(chunk)
                    self.traffic.bytes += len(chunk)
                    if written > most:
                        raise _too_large(self.video_bytes)
                    file.write(chunk)
            kept = written
            return DownloadedBody(spilled=file.path, size=kept)
        finally:
            self.folder.room.give(most - kept)


def left_of(clock: asyncio.Timeout) -> float:
    """Return the seconds that a clock has left."""
    until = clock.when()
    return 0.0 if until is None else until - asyncio.get_running_loop().time()


async def _untimed(clock: asyncio.Timeout, waiting: Awaitable[None]) -> None:
    """Wait without letting the clock run: it is not the server who is slow."""
    left = left_of(clock)
    clock.reschedule(None)
    await waiting
    clock.reschedule(asyncio.get_running_loop().time() + left)


def _kind_of(head: bytes) -> MediaClass | None:
    name = sniff(head[:HEAD_BYTES])
    return class_of(name) if name else None


async def _read_head(chunks: AsyncIterator[bytes], *, hurry: bool) -> bytes:
    """Return the first bytes: enough to know a format by, or all there are.

    With `hurry`, the first that look like a picture: it is too large, whatever follows.
    """
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= HEAD_BYTES or (hurry and _kind_of(head) == "picture"):
            break
    return head


async def drain(response: httpcore2.Response, chunks: AsyncIterator[bytes]) -> None:
    """Read the little that is left of an answer, so that its connection can be used again."""
    declared = declared_length(response)
    if declared is None or declared > DRAINED_BYTES:
        return
    with contextlib.suppress(Exception):
        async with asyncio.timeout(DRAIN_S):
            async for _ in chunks:
                pass


def _too_large(limit: int) -> FetchError:
    return FetchError("download_too_large", f"the download is larger than the limit of {limit / 1e6:g} MB")
