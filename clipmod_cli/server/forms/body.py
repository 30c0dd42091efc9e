"""The body of a request with files: how much it may bring, how long it may take, and its end."""

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
"""What a file costs a form beside its content: boundary and headers, a long name among them."""

DRAIN_BYTES: Final = 64 * MB
DRAIN_S: Final = 10.0
DRAIN_IDLE_S: Final = 1.0
"""A refused body is read on for so much and so long: a client that is still sending would otherwise see
a broken connection instead of the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """What a form may bring.

    Attributes:
        name: of the field that carries files.
        total_bytes: of the whole body's files.
        heic: these pictures are taken too.
        patience_s: how long the next bytes may take to come.
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
    """The request's body, as it comes."""

    scope: Scope
    receive: Receive
    wanted: FormLimits
    ended: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield its bytes.

        Raises:
            HTTPException: it is too large, comes too slowly, or ends before its end.
        """
        declared = self._header(b"content-length")
        if declared.isdigit() and int(declared) > self.wanted.body_bytes:
            raise too_large(self.wanted)
        received = 0
        while not self.ended:
            chunk = await self._next(self.wanted.patience_s)
            received += len(chunk)
            if received > self.wanted.body_bytes:
                raise too_large(self.wanted)
            if chunk:
                yield chunk

    async def drain(self) -> None:
        """Read on for a while, and keep nothing. Who asked first whether to send is told not to."""
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


def too_large(wanted: FormLimits) -> HTTPException:
    """Return the documented refusal of a body that is too large."""
    if wanted.files == 1:
        return problem(413, f"File too large. Maximum size: {wanted.file_bytes // MB}MB")
    return problem(413, f"Request too large. Maximum total size: {wanted.total_bytes // MB}MB")
