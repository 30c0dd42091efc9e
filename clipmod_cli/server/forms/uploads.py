"""Files in small forms, limited in size while they arrive, as Items.

Starlette parses the form and keeps files over a megabyte in unnamed temporary files; only the file that is
being decoded is in memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import Request, Response, UploadFile
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from clipmod_cli.decode.formats import HEAD_BYTES, sniff
from clipmod_cli.server.configuration import FORM_BYTES, MB, RequestLimits
from clipmod_cli.server.forms.spooled import NO_ROOM
from clipmod_cli.server.forms.strict_json import StrictJsonRequest
from clipmod_cli.server.problems import problem
from clipmod_cli.server.request_info import declared_bytes
from clipmod_cli.server.service import Service
from clipmod_cli.types import Item

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

COPY_BYTES = 1 << 20
NAME_CHARS = 120
"""Of a file's name in a message."""


def upload_route(most: Callable[[RequestLimits], int]) -> type[APIRoute]:
    """Return a class of routes with this limit of a body, plus `FORM_BYTES` around its files.

    A request takes its place in the load when its body is complete, so that slow senders hold no place.
    """

    class UploadRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()

            async def bounded(request: Request) -> Response:
                service: Service = request.state.service
                limit = most(service.limits)
                if declared_bytes(request.scope) > limit + FORM_BYTES:
                    raise _too_long(limit)
                try:
                    return await handle(StrictJsonRequest(request.scope, _counted(request.receive, limit)))
                except HTTPException as e:
                    if isinstance(e.__cause__, OSError):  # to FastAPI a form that cannot be parsed
                        raise problem(507, NO_ROOM) from e
                    raise

            return bounded

    return UploadRoute


def _counted(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that raises once the body is too large."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit + FORM_BYTES:
            raise _too_long(limit)
        return message

    return counted


def _too_long(limit: int) -> Exception:
    return problem(413, f"The request is larger than the limit of {limit / MB:g} MB")


def shown(file: UploadFile) -> str:
    """Return a file's name for a message."""
    return (file.filename or "file")[:NAME_CHARS]


def _check_size(file: UploadFile, most: int) -> None:
    if (file.size or 0) > most:
        raise problem(413, f"{shown(file)} is larger than the limit of {most / MB:g} MB")


def check_pictures(files: Sequence[UploadFile], limits: RequestLimits) -> None:
    """Refuse files that are too large, empty, or videos.

    Raises:
        HTTPException: 413 or 400, naming the file.
    """
    for file in files:
        _check_size(file, limits.image_bytes)
        if not file.size:
            raise problem(400, f"{shown(file)} is empty")
        if _is_video(file):
            raise problem(400, f"{shown(file)} is a video, where a picture is expected")


def check_video(file: UploadFile, limits: RequestLimits) -> None:
    """Refuse a file that is too large or no video.

    Raises:
        HTTPException: 413 or 400.
    """
    _check_size(file, limits.video_bytes)
    if not _is_video(file):
        raise problem(400, f"{shown(file)} is not a video")


def _is_video(file: UploadFile) -> bool:
    # up to a megabyte is in memory, and the head of a larger file in the system's cache: no thread is needed
    head = file.file.read(HEAD_BYTES)
    file.file.seek(0)
    known = sniff(head)
    return known is not None and known.kind == "video"


def picture_items(files: Sequence[UploadFile]) -> Iterator[Item]:
    """Yield an Item for each file; its bytes are read when it is taken. Blocks."""
    for index, file in enumerate(files):
        file.file.seek(0)
        yield Item(source=file.filename or "file", index=index, data=file.file.read())


@contextmanager
def video_item(file: UploadFile) -> Iterator[Item]:
    """Give an Item in a temporary file, which is removed afterwards. Blocks."""
    descriptor, path = tempfile.mkstemp(prefix="clipmod-")
    try:
        with os.fdopen(descriptor, "wb") as copy:
            file.file.seek(0)
            shutil.copyfileobj(file.file, copy, COPY_BYTES)
        yield Item(source=file.filename or "file", index=0, spilled=path)
    finally:
        with contextlib.suppress(OSError):
            Path(path).unlink()
