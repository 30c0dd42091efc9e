"""The files of a form, each yielded as soon as it is complete.

Sizes, counts and each file's format by its first bytes are checked while reading. It decodes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib.util import find_spec

from anyio import to_thread
from fastapi import HTTPException
from starlette.types import Receive, Scope

from clipmod_cli.decode.formats import HEAD_BYTES, picture_formats, sniff
from clipmod_cli.errors import ErrorCode
from clipmod_cli.server.forms.body import FormLimits, RequestBody
from clipmod_cli.server.forms.multipart import Event, FormError, FormReader, PartBegin, PartData, PartEnd
from clipmod_cli.server.forms.spooled import Piece, SpooledPieces
from clipmod_cli.server.problems import problem
from clipmod_cli.server.request_limits import MB
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
    headers = dict(scope["headers"])
    try:
        return FormReader(headers.get(b"content-type", b"").decode("latin-1"))
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
    except HTTPException:
        await body.drain()
        raise
    except FormError as e:
        await body.drain()
        raise problem(400, str(e)) from e
    except OSError as e:
        await body.drain()
        raise problem(507, "Not enough room for this request: the temporary folder takes no more") from e


@dataclass
class _FormFiles:
    """The current file of a form, and the number of files so far."""

    spool: SpooledPieces
    limits: FormLimits
    count: int = 0
    current: Upload | None = None

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
        if part.field != self.limits.name or part.filename is None:
            return
        if self.count >= self.limits.files:
            most = "1 file" if self.limits.files == 1 else f"{self.limits.files} files"
            raise problem(400, f"Too many files. Maximum: {most} per request")
        self.current = Upload(part.filename, self.count)
        self.count += 1

    async def take(self, data: bytes) -> None:
        """Spool data of the file; beyond the limit only count it."""
        upload = self.current
        if upload is None:
            return
        upload.size += len(data)
        upload.head += data[: HEAD_BYTES - len(upload.head)]
        if upload.size > self.limits.file_bytes:
            self.spool.drop(upload.pieces)
            upload.pieces.clear()
            return
        piece = self.spool.hold(data)
        upload.pieces.append(await to_thread.run_sync(self.spool.put, data) if piece is None else piece)

    def end(self) -> Upload | None:
        upload, self.current = self.current, None
        if upload is not None:
            upload.fault = fault_of(upload.head, upload.size, self.limits.file_bytes, heic=self.limits.heic)
            if upload.fault is not None:
                self.spool.drop(upload.pieces)
                upload.pieces.clear()
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
        return "unsupported_format", "this is no picture of a known format"
    if known.kind != "picture":
        return "unsupported_format", f"this is a file of the kind {known.name} and no picture"
    if known.package is not None and not heic:
        return "unsupported_format", "HEIC pictures are not taken by this service"
    return None
