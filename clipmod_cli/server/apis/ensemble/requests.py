"""What the endpoints of the ensemble API share: their forms, their caller, their refusals."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError

from clipmod_cli.decode.formats import sniff
from clipmod_cli.output.history.rows import HostedRow
from clipmod_cli.records import Record
from clipmod_cli.server.apis.choosing import Chosen
from clipmod_cli.server.apis.ensemble.answers import HostedLocation, message_of
from clipmod_cli.server.apis.ensemble.shapes import ProblemAnswer
from clipmod_cli.server.device_thread import Caller
from clipmod_cli.server.forms.spooled import SpooledPieces
from clipmod_cli.server.forms.streamed import (
    FormLimits,
    Upload,
    formats_of,
    open_form,
    read_uploads,
    takes_heic,
)
from clipmod_cli.server.hosting.pictures import NotHosted
from clipmod_cli.server.hosting.quota import AnswerPins
from clipmod_cli.server.panels import RequestPanels
from clipmod_cli.server.problems import not_looked_at, problem, status_of
from clipmod_cli.server.request_info import RequestInfo
from clipmod_cli.server.service import JudgedItem, Service
from clipmod_cli.server.state import Configured, Info, Served, Stored, Threads, in_thread
from clipmod_cli.server.storage import ServiceStorage
from clipmod_cli.settings.definition import Settings
from clipmod_cli.types import Failure

log = logging.getLogger(__name__)

T = TypeVar("T")

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": ProblemAnswer, "description": "The input is at fault"},
    413: {"model": ProblemAnswer, "description": "It is too large"},
    500: {"model": ProblemAnswer, "description": "A model failed"},
    503: {"model": ProblemAnswer, "description": "Busy; come again after `Retry-After` seconds"},
    504: {"model": ProblemAnswer, "description": "The deadline passed"},
    507: {"model": ProblemAnswer, "description": "The disk is full"},
}
"""Errors of requests that judge."""

FORM_PROBLEM: Final[dict[int | str, dict[str, Any]]] = {
    422: {
        "description": "A field is missing",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}},
    }
}


def form_of(field: str, *, several: bool) -> dict[str, Any]:
    """Return the OpenAPI description of a form with files."""
    one = {"type": "string", "format": "binary"}
    shape = {"type": "array", "items": one, "minItems": 1} if several else one
    schema = {"type": "object", "required": [field], "properties": {field: shape}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@dataclass
class RequestKeeper:
    """One request: hosts its judged pictures for `/image`, and counts them.

    Attributes:
        base: the service's own URL, for links.
        pins: the kept files that the answer names.
        panels: what judges it, by the policy that it asks for.
    """

    service: Service
    settings: Settings
    storage: ServiceStorage
    base: str
    info: RequestInfo
    pins: AnswerPins
    panels: RequestPanels

    def form_limits(self, name: str, files: int, total_bytes: int) -> FormLimits:
        """Return the limits of a form with so many files in the field `name`."""
        return FormLimits(
            name=name,
            files=files,
            file_bytes=self.service.limits.image_bytes,
            total_bytes=total_bytes,
            heic=takes_heic(self.settings),
            patience_s=self.settings.deadline,
        )

    def refuse(self, judged: JudgedItem) -> str:
        """Count a judged picture that is answered as an error, and return why."""
        self.count(judged)
        self.info.error = not_looked_at(judged.refused)
        return self.info.error

    def count(self, judged: JudgedItem) -> None:
        """Count a judged picture."""
        self.info.images += 1
        self.info.judged_by = judged.panel.key
        self.storage.stood_in = judged.panel.stand_in

    def host(self, judged: JudgedItem, read: Callable[[], bytes]) -> HostedLocation:
        """Count a judged picture, keep it for `/image`, and return its location.

        Args:
            judged: not refused.
            read: returns the picture's bytes; may raise OSError.
        """
        self.count(judged)
        kept = self._keep(judged.record, read)
        if isinstance(kept, str):
            return HostedLocation(not_hosted=kept)
        return HostedLocation(kept.image_id, f"{self.base}/image/{kept.image_id}")

    def _keep(self, record: Record, read: Callable[[], bytes]) -> HostedRow | NotHosted:
        hosting = self.storage.hosting
        if hosting is None:
            return "off"
        if record.decided_by == "deny":
            return "denied"
        try:
            data = read()
        except OSError as e:
            log.warning("a picture is not hosted: %s", e.strerror or e)
            return "storage"
        known = sniff(data)
        name = record.format or (known.name if known else "")  # where a bank decided, nothing was decoded
        sha256 = record.sha256 or hashlib.sha256(data).hexdigest()
        return hosting.keep(data, name=record.source, format_name=name, sha256=sha256, pins=self.pins)


async def _keeper(
    request: Request, service: Served, settings: Configured, storage: Stored, info: Info, panels: Chosen
) -> AsyncIterator[RequestKeeper]:
    base = settings.public_url or str(request.base_url)
    pins = AnswerPins()
    try:
        yield RequestKeeper(service, settings, storage, base.rstrip("/"), info, pins, panels)
    finally:  # after the answer's last byte
        pins.release()


Keeps = Annotated[RequestKeeper, Depends(_keeper)]


async def read_all(request: Request, spool: SpooledPieces, limits: FormLimits) -> list[Upload]:
    """Return all files of the form.

    Raises:
        RequestValidationError: there is no file in the field.
        HTTPException: as `read_uploads`.
    """
    form = open_form(request.scope)
    try:
        async with asyncio.timeout(limits.patience_s):
            reading = read_uploads(request.scope, request.receive, spool, limits, form)
            uploads = [upload async for upload in reading]
    except TimeoutError as e:
        raise problem(504, "The request's body took too long to arrive") from e
    if not uploads:
        raise missing(limits.name)
    return uploads


def missing(field: str) -> RequestValidationError:
    """Return the refusal of a form without its field, in FastAPI's words."""
    return RequestValidationError(
        [{"type": "missing", "loc": ("body", field), "msg": "Field required", "input": None}]
    )


async def while_connected(
    request: Request, caller: Caller, work: Callable[[], T], threads: Threads = "threads"
) -> T:
    """Return the result of blocking code; cancel the caller when the client disconnects.

    Raises:
        HTTPException: 504 at the caller's deadline, even while a forward pass still runs.
    """

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            continue
        caller.cancel()

    watching = asyncio.create_task(watch())
    working = asyncio.create_task(in_thread(request, work, threads))
    working.add_done_callback(_retrieve)
    try:
        left_s = max(0.0, caller.deadline - time.monotonic())
        await asyncio.wait([working], timeout=left_s)
        if not working.done():
            raise late()
        return working.result()
    finally:
        caller.cancel()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def _retrieve(task: asyncio.Task[T]) -> None:
    """Mark the task's exception as retrieved: after a 504 nothing else does."""
    if not task.cancelled():
        task.exception()


def refusal_of(failure: Failure, settings: Settings) -> HTTPException:
    """Return the documented answer to a request whose only picture could not be judged."""
    status = status_of(failure.code)
    if status == 400:
        formats = ", ".join(formats_of(settings))
        return problem(400, f"Invalid image file. Supported formats: {formats}")
    if failure.code == "file_too_large":
        return problem(413, f"File too large. Maximum size: {settings.max_image_mb}MB")
    if status == 413:
        return problem(413, f"File too large: {failure.message}")
    return problem(status, f"Error processing image: {message_of(failure)}")


def late() -> HTTPException:
    """Return the answer to a request whose deadline passed."""
    return problem(504, "Error processing image: The request's time was up")
