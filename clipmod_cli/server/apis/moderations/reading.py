"""The body of a request to `/v1/moderations`: its pictures as uploads and URLs, and refusals of all else.

The body is kept in the request's temporary file until it is complete. Then it is parsed, one large body at a
time: as JSON with base64 in it, it is in memory more than once.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from anyio import to_thread
from fastapi import Request

from clipmod_cli.decode.formats import HEAD_BYTES
from clipmod_cli.server.apis.moderations.errors import picture_refusal, refusal
from clipmod_cli.server.apis.moderations.shapes import MODEL_PATTERN, URL_CHARS
from clipmod_cli.server.configuration import MB
from clipmod_cli.server.forms.spooled import NO_ROOM, Piece, SpooledPieces
from clipmod_cli.server.forms.streamed import FormLimits, RequestBody, Upload, fault_of
from clipmod_cli.server.forms.strict_json import read_json
from clipmod_cli.server.problems import problem
from clipmod_cli.server.state import in_thread
from clipmod_cli.sources.web.addresses import check_url
from clipmod_cli.sources.web.errors import FetchError

BODY_BYTES: Final = 100 * MB
"""The largest body, or that of one picture of the largest size, if this is more. Less than ten pictures of
50 MB, because base64 in JSON cannot be decoded as it arrives."""

SMALL_BYTES: Final = MB
"""A body up to this size is parsed at once."""

MOST_VALUES: Final = 100_000
"""Lists, objects and commas in a body: each costs memory many times its size. Base64 has none of them."""

SHOWN_CHARS: Final = 100
"""Of a value in a message."""

TEXT: Final = (
    "Text is not judged by this service, only images: send "
    '{"type": "image_url", "image_url": {"url": ...}} in a list'
)

PART: Final = (
    'Each part must be {"type": "image_url", "image_url": {"url": "..."}} or '
    '{"type": "text", "text": "..."}, without other keys'
)

_MODEL: Final = re.compile(MODEL_PATTERN)
_DATA: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AskedPicture:
    """A picture of the request.

    Attributes:
        param: its place, as `input[0].image_url.url`.
        upload: with bytes if it came as a `data:` URL; else its name is the URL.
    """

    param: str
    upload: Upload
    is_remote: bool


@dataclass(slots=True)
class AskedInput:
    """The input of a request; `has_text`: there was text beside the pictures."""

    pictures: list[AskedPicture] = field(default_factory=list)
    has_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InputReader:
    """Reads the input of one request.

    Attributes:
        ignore_text: text beside pictures is no error.
    """

    limits: FormLimits
    spool: SpooledPieces
    ignore_text: bool

    async def read(self, request: Request, parsing: asyncio.Lock) -> AskedInput:
        """Return the input, its `data:` URLs decoded; `parsing` is held while a large body is parsed.

        Raises:
            HTTPException: it is none, too large, too slow, text, or names another model.
        """
        pieces = await self._receive(request)
        size = sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in pieces)
        async with parsing if size > SMALL_BYTES else contextlib.nullcontext():
            return await in_thread(request, partial(self._parse, pieces))

    async def _receive(self, request: Request) -> list[Piece]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise refusal(415, "Content-Type must be application/json", "invalid_content_type")
        body = RequestBody(request.scope, request.receive, self.limits)
        pieces: list[Piece] = []
        try:
            async with asyncio.timeout(self.limits.patience_s):
                async for chunk in body.chunks():
                    held = self.spool.hold(chunk)
                    pieces.append(await to_thread.run_sync(self.spool.put, chunk) if held is None else held)
        except TimeoutError as e:
            raise problem(504, "The request's body took too long to arrive") from e
        except OSError as e:
            raise problem(507, NO_ROOM) from e
        return pieces

    def _parse(self, pieces: list[Piece]) -> AskedInput:
        """Blocks."""
        parts = _parts_of(self._json(pieces))
        asked = AskedInput()
        for number, part in enumerate(parts):
            where = f"input[{number}]"
            match part:
                case {"type": "image_url", "image_url": {"url": str(url), **others}, **more} if not (
                    others or more
                ):
                    parts[number] = None  # the base64 is freed once it is decoded
                    asked.pictures.append(self._picture(url, where, len(asked.pictures)))
                case {"type": "text", "text": str(), **more} if not more:
                    asked.has_text = True
                case str():
                    raise refusal(400, TEXT, "text_not_supported", where)
                case _:
                    raise refusal(400, PART, "invalid_value", where)
        if asked.has_text and not (self.ignore_text and asked.pictures):
            raise refusal(400, TEXT, "text_not_supported", "input")
        return asked

    def _json(self, pieces: list[Piece]) -> Any:
        data = self.spool.get(pieces)
        self.spool.drop(pieces)
        pieces.clear()
        if sum(data.count(sign) for sign in (b"[", b"{", b",")) > MOST_VALUES:
            raise refusal(400, "The body has too many values", "invalid_json")
        try:
            text = data.decode()
            del data
            return read_json(text)
        except ValueError as e:
            raise refusal(400, f"The body is not valid JSON: {e}", "invalid_json") from e

    def _picture(self, url: str, part: str, index: int) -> AskedPicture:
        param = f"{part}.image_url.url"
        if index >= self.limits.files:
            most = f"Too many images. Maximum: {self.limits.files} per request"
            raise refusal(400, most, "too_many_images", "input")
        if url[:5].lower() != "data:":
            _check_remote(url, param)
            return AskedPicture(param, Upload(url, index), is_remote=True)
        upload = Upload(param, index)
        self.fill(upload, self._decoded(url, param), param)
        return AskedPicture(param, upload, is_remote=False)

    def _decoded(self, url: str, param: str) -> bytes:
        begun = _DATA.match(url)
        if begun is None:
            raise refusal(400, "A data: URL must be data:image/...;base64,...", "invalid_image_url", param)
        if (len(url) - begun.end()) // 4 * 3 > self.limits.file_bytes + 2:  # of which padding may be
            most = self.limits.file_bytes / MB
            raise picture_refusal(
                "file_too_large", f"The image is larger than the limit of {most:g} MB", param
            )
        try:
            return binascii.a2b_base64(url[begun.end() :], strict_mode=True)
        except ValueError as e:
            raise refusal(400, f"The image is not valid base64: {e}", "invalid_base64_image", param) from e

    def fill(self, upload: Upload, data: bytes, param: str) -> None:
        """Give an upload its bytes; blocks.

        Raises:
            HTTPException: they are no picture, or too large.
        """
        upload.size, upload.head = len(data), data[:HEAD_BYTES]
        fault = fault_of(upload.head, upload.size, self.limits.file_bytes, heic=self.limits.heic)
        if fault is not None:
            code, message = fault
            raise picture_refusal(code, f"Invalid image: {message}", param)
        try:
            upload.pieces.append(self.spool.put(data))
        except OSError as e:
            raise problem(507, NO_ROOM) from e


def _parts_of(body: Any) -> list[Any]:
    """Return the parts of the input.

    Raises:
        HTTPException: the body has no list of parts, or an unknown key, or names a model of another service.
    """
    if not isinstance(body, dict):
        raise refusal(400, "The body must be a JSON object", "invalid_json")
    for name in body.keys() - {"input", "model"}:
        raise refusal(400, f"Unknown parameter: {_shown(name)}", "unknown_parameter", name[:SHOWN_CHARS])
    _check_model(body.get("model"))
    match body.get("input"):
        case None:
            raise refusal(400, "Missing required parameter: 'input'", "missing_required_parameter", "input")
        case str():
            raise refusal(400, TEXT, "text_not_supported", "input")
        case list() as parts if parts:
            return parts
        case _:
            raise refusal(400, "input must be a list with at least one part", "invalid_value", "input")


def _check_model(name: Any) -> None:
    """Refuse models that would be another's: what was asked for is never quietly replaced."""
    if name is None or (isinstance(name, str) and _MODEL.match(name)):
        return
    if not isinstance(name, str):
        raise refusal(400, "model must be a text", "invalid_type", "model")
    message = f"The model {_shown(name)} does not exist here: use omni-moderation-latest or clipmod"
    raise refusal(404, message, "model_not_found", "model")


def _check_remote(url: str, param: str) -> None:
    fault = f"it has more than {URL_CHARS} characters" if len(url) > URL_CHARS else ""
    try:
        check_url(url[:URL_CHARS])
    except FetchError as e:
        fault = fault or e.message
    if fault:
        message = f"{_shown(url)} is not the URL of an image: {fault}"
        raise refusal(400, message, "invalid_image_url", param, "invalid_url")


def _shown(text: str) -> str:
    return repr(text[:SHOWN_CHARS])
