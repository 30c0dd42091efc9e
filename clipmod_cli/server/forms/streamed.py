"""The files of a form, each yielded as soon as it is complete.

Sizes, counts, time and each file's format by its first bytes are checked while reading. Decodes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final

from anyio import to_thread
from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from clipmod_cli.decode.formats import HEAD_BYTES, picture_formats, sniff
from clipmod_cli.errors import ErrorCode
from clipmod_cli.server.configuration import FORM_BYTES, MB
from clipmod_cli.server.forms.multipart import Event, FormError, FormReader, PartBegin, PartData, PartEnd
from clipmod_cli.server.forms.spooled import NO_ROOM, Piece, SpooledPieces
from clipmod_cli.server.forms.strays import stray_part
from clipmod_cli.server.problems import problem
from clipmod_cli.server.request_info import declared_bytes
from clipmod_cli.settings.definition import Settings


@dataclass(slots=True)
class Upload:
    """One file of a form.

    Attributes:
        name: as the client gave it; never used as a path.
        index: its position among the files, from 0.
        fault: why it cannot be judged, if known.
    """

    name: str
    index: int
    size: int = 0
    pieces: list[Piece] = field(default_factory=list)
    head: bytes = b""
    fault: tuple[ErrorCode, str] | None = None

    def drop(self, spool: SpooledPieces) -> None:
        """Release its bytes."""
        spool.drop(self.pieces)
        self.pieces.clear()


def takes_heic(settings: Settings) -> bool:
    """Return whether HEIC pictures are accepted: enabled, with a decoder installed."""
    return settings.heic and find_spec("pillow_heif") is not None


def formats_of(settings: Settings) -> tuple[str, ...]:
    """Return the extensions of the accepted formats."""
    heic = takes_heic(settings)
    return tuple(ext for known in picture_formats() if heic or not known.package for ext in known.listed)


def open_form(scope: Scope) -> FormReader:
    """Return a reader of the request's form.

    Raises:
        HTTPException: 400 if the Content-Type is not a form.
    """
    try:
        return FormReader(Headers(scope=scope).get("content-type", ""))
    except FormError as e:
        raise problem(400, str(e)) from e


async def read_uploads(
    scope: Scope, receive: Receive, spool: SpooledPieces, limits: FormLimits, form: FormReader
) -> AsyncIterator[Upload]:
    """Yield the files of the form, in order, each when it is complete.

    Raises:
        HTTPException: 400 for a broken form or too many files, 413 if it is too large, 504 if it takes too
            long, 507 if the temporary folder is full.
    """
    reading = _FormFiles(spool, limits)
    body = RequestBody(scope, receive, limits)
    try:
        async for chunk in body.chunks():
            for event in form.feed(chunk):
                if (done := await reading.handle(event)) is not None:
                    yield done
        form.finish()
    except FormError as e:
        raise problem(400, str(e)) from e
    except OSError as e:
        raise problem(507, NO_ROOM) from e


@dataclass
class _FormFiles:
    """The current file of a form, and the number of files so far.

    Attributes:
        stray: the field of the current part, if that is a file in another field, or a text in that of files.
        passed_over: the field of a stray part that is not empty. Without any file the form lacks its field.
    """

    spool: SpooledPieces
    limits: FormLimits
    count: int = 0
    current: Upload | None = None
    stray: str | None = None
    passed_over: str | None = None

    async def handle(self, event: Event) -> Upload | None:
        """Return the file that this event completes, if it does."""
        match event:
            case PartBegin():
                self.begin(event)
            case PartData(data=data):
                await self.take(data)
            case PartEnd():
                return self.end()
        return None

    def begin(self, part: PartBegin) -> None:
        is_file, is_ours = part.filename is not None, part.field == self.limits.name
        self.stray = part.field if is_file != is_ours else None
        if part.filename is None or not is_ours:
            return
        self.refuse_strays()
        if self.count >= self.limits.files:
            most = "1 file" if self.limits.files == 1 else f"{self.limits.files} files"
            raise problem(400, f"Too many files. Maximum: {most} per request")
        self.current = Upload(part.filename, self.count)
        self.count += 1

    def refuse_strays(self) -> None:
        """Raise the refusal of a form with a file and a stray part."""
        if self.passed_over is not None:
            raise stray_part(self.passed_over, self.limits.name)

    async def take(self, data: bytes) -> None:
        """Spool data of the file; beyond the limit only count it."""
        upload = self.current
        if upload is None:
            self.passed_over = self.stray or self.passed_over
            if self.count:
                self.refuse_strays()
            return
        upload.size += len(data)
        upload.head += data[: HEAD_BYTES - len(upload.head)]
        if upload.size > self.limits.file_bytes:
            upload.drop(self.spool)
            return
        piece = self.spool.hold(data)
        upload.pieces.append(await to_thread.run_sync(self.spool.put, data) if piece is None else piece)

    def end(self) -> Upload | None:
        upload, self.current = self.current, None
        if upload is not None:
            upload.fault = fault_of(upload.head, upload.size, self.limits.file_bytes, heic=self.limits.heic)
            if upload.fault is not None:
                upload.drop(self.spool)
        return upload


def fault_of(head: bytes, size: int, most: int, *, heic: bool) -> tuple[ErrorCode, str] | None:
    """Return why a file with these first bytes cannot be judged; None if it may be.

    Only pictures and animations can: videos have endpoints of their own.
    """
    if size > most:
        return "file_too_large", f"the file is larger than the limit of {most / MB:g} MB"
    if not size:
        return "empty_file", "the file is empty"
    known = sniff(head)
    if known is None:
        return "unsupported_format", "not a supported image format"
    if known.kind != "picture":
        return "unsupported_format", f"{known.name} is not an image format"
    if known.package is not None and not heic:
        return "unsupported_format", "HEIC pictures are not accepted by this service"
    return None


PART_BYTES: Final = 4096
"""Of a file in a form beside its content: boundary and headers, including a long name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """Limits of the files in the field `name` of a form; `patience_s` is the timeout of the next bytes."""

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


def check_declared(scope: Scope, limits: FormLimits) -> None:
    """Refuse a body whose declared length is over the limit, before any of it is asked for.

    Raises:
        HTTPException: 413.
    """
    if declared_bytes(scope) > limits.body_bytes:
        raise too_large(limits)


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
        check_declared(self.scope, self.limits)
        received = 0
        while not self.ended:
            chunk = await self._next()
            received += len(chunk)
            if received > self.limits.body_bytes:
                raise too_large(self.limits)
            if chunk:
                yield chunk

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self.limits.patience_s):
                message = await self.receive()
        except TimeoutError as e:
            raise problem(504, "The request's body took too long to arrive") from e
        if message["type"] == "http.disconnect":
            self.ended = True
            raise problem(400, "The request ended before its body did")
        self.ended = not message.get("more_body", False)
        data: bytes = message.get("body", b"")
        return data


def too_large(limits: FormLimits) -> HTTPException:
    """Return the documented refusal of a body that is too large."""
    if limits.files == 1:
        return problem(413, f"File too large. Maximum size: {limits.file_bytes // MB}MB")
    return problem(413, f"Request too large. Maximum total size: {limits.total_bytes // MB}MB")
