"""The body of a request with files, under limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from fastapi import HTTPException
from starlette.types import Receive, Scope

from clipmod_cli.server.problems import problem
from clipmod_cli.server.request_limits import FORM_BYTES, MB

PART_BYTES: Final = 4096
"""Of a file in a form beside its content: boundary and headers, including a long name."""

DRAIN_BYTES: Final = 64 * MB
DRAIN_S: Final = 10.0
DRAIN_IDLE_S: Final = 1.0
"""How much and how long a refused body is still read: clients that are sending would otherwise see a broken
connection instead of the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """Limits of a form.

    Attributes:
        name: of the field with files.
        total_bytes: of all files.
        heic: HEIC pictures are accepted.
        patience_s: timeout of the next bytes.
    """

    name: str
    files: int
    file_bytes: int
    total_bytes: int
    heic: bool
    patience_s: float

    @property
    def body_bytes(self) -> int:
        """The largest body."""
        return self.total_bytes + FORM_BYTES + self.files * PART_BYTES


@dataclass
class RequestBody:
    """The request's body, as it arrives."""

    scope: Scope
    receive: Receive
    limits: FormLimits
    ended: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield its bytes.

        Raises:
            HTTPException: it is too large, too slow, or incomplete.
        """
        declared = self._header(b"content-length")
        if declared.isdigit() and int(declared) > self.limits.body_bytes:
            raise too_large(self.limits)
        received = 0
        while not self.ended:
            chunk = await self._next(self.limits.patience_s)
            received += len(chunk)
            if received > self.limits.body_bytes:
                raise too_large(self.limits)
            if chunk:
                yield chunk

    async def drain(self) -> None:
        """Read and discard the rest for a while, unless the client waits for `100 Continue`."""
        if self._header(b"expect"):
            return
        drained = 0
        try:
            async with asyncio.timeout(DRAIN_S):
                while not self.ended and drained < DRAIN_BYTES:
                    drained += len(await self._next(DRAIN_IDLE_S))
        except (TimeoutError, HTTPException):
            return

    async def _next(self, patience_s: float) -> bytes:
        try:
            async with asyncio.timeout(patience_s):
                message = await self.receive()
        except TimeoutError as e:
            raise problem(504, "The request's body took too long to arrive") from e
        if message["type"] == "http.disconnect":
            self.ended = True
            raise problem(400, "The request ended before its body did")
        self.ended = not message.get("more_body", False)
        data: bytes = message.get("body", b"")
        return data

    def _header(self, name: bytes) -> bytes:
        return next((value for key, value in self.scope["headers"] if key == name), b"")


def too_large(limits: FormLimits) -> HTTPException:
    """Return the documented refusal of a body that is too large."""
    if limits.files == 1:
        return problem(413, f"File too large. Maximum size: {limits.file_bytes // MB}MB")
    return problem(413, f"Request too large. Maximum total size: {limits.total_bytes // MB}MB")
