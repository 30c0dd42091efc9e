"""The bytes of an answer: counted as they come, known by their content, held or put into a file.

A picture stays in memory, a video or an archive goes to the temporary folder; anything else is no
input. Nothing is decompressed and nothing is decoded here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field

import httpcore2

from clipmod_cli.decode.formats import HEAD_BYTES, MediaClass, class_of, sniff
from clipmod_cli.sources.spill import Folder
from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.sources.web.hosts import Budget
from clipmod_cli.sources.web.responses import declared_length, may_be_archive, no_picture

SMALL_BYTES = 262_144
"""Held for a body of unknown length until it proves longer; most pictures of the web are not."""

DRAINED_BYTES = 65_536
"""The rest of an answer that nobody needs is read up to this length: cheaper than a new connection."""

DRAIN_S = 1.0
"""For no longer than this."""


@dataclass(slots=True)
class Traffic:
    """How many bytes of bodies have come. One thread counts, any may look."""

    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
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

    memory: Budget
    folder: Folder
    max_bytes: int
    video_bytes: int
    video_s: float
    archives: bool
    traffic: Traffic

    async def read(
        self, response: httpcore2.Response, chunks: AsyncIterator[bytes], clock: asyncio.Timeout
    ) -> Body:
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
    ) -> Body:
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
            return Body(data=bytes(data), size=kept)
        finally:
            self.memory.give(held - kept)

    async def _spill(
        self, head: bytes, chunks: AsyncIterator[bytes], most: int, clock: asyncio.Timeout
    ) -> Body:
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
            return Body(spilled=file.path, size=kept)
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
