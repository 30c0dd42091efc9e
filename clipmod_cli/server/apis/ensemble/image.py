"""`/image/{image_id}`: hosted pictures, to be seen and to be deleted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import IO, Final

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from clipmod_cli.server.apis.ensemble.shapes import ProblemAnswer
from clipmod_cli.server.hosting.pictures import MEDIA_TYPES
from clipmod_cli.server.problems import problem
from clipmod_cli.server.state import Stored

router = APIRouter()
log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 262_144

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Content-Disposition": "inline",
}
"""Uploads are not trusted: a browser must not run anything in them."""


@router.get(
    "/image/{image_id}",
    summary="A picture that was judged",
    response_class=Response,
    responses={
        200: {
            "description": "The picture, without its metadata unless the service keeps that",
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()
            },
        },
        304: {"description": "It is what you have"},
        404: {"model": ProblemAnswer, "description": "There is none, or no longer"},
    },
)
async def image(image_id: str, request: Request, storage: Stored) -> Response:
    """Return a picture under the id that its answer gave."""
    hosting = storage.hosting
    found = None if hosting is None else await to_thread.run_sync(hosting.open_file, image_id)
    if found is None:
        raise problem(404, "Image not found")
    hosted, file = found
    tag = f'"{hosted.image_id}"'  # the bytes under an id never change
    headers = {**HEADERS, "ETag": tag, "Cache-Control": "private, no-cache"}
    if _has_it(request, tag):
        file.close()
        return Response(status_code=304, headers=headers)
    return OpenFileResponse(
        file,
        media_type=MEDIA_TYPES[hosted.format],
        headers={**headers, "Content-Length": str(hosted.bytes)},
    )


class OpenFileResponse(StreamingResponse):
    """Sends an open file, and closes it also if the caller left before the first byte."""

    def __init__(self, file: IO[bytes], *, headers: Mapping[str, str], media_type: str) -> None:
        """Take the file over."""
        super().__init__(iter(partial(file.read, CHUNK_BYTES), b""), headers=headers, media_type=media_type)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        with self._file:
            await super().__call__(scope, receive, send)


def _has_it(request: Request, tag: str) -> bool:
    """Return whether `If-None-Match` names this tag; a weak one counts too, as a GET compares them."""
    given = ",".join(request.headers.getlist("if-none-match"))
    return given.strip() == "*" or tag in {one.strip().removeprefix("W/") for one in given.split(",")}


@router.delete(
    "/image/{image_id}",
    summary="Delete a picture that was judged",
    status_code=204,
    response_class=Response,
    responses={
        404: {"model": ProblemAnswer, "description": "There is none, or no longer"},
        500: {"model": ProblemAnswer, "description": "Its file cannot be removed"},
    },
)
async def delete_image(image_id: str, storage: Stored) -> Response:
    """Delete the picture and the prediction file about it.

    The records of what was judged stay: `clipmod stats forget` erases those.
    """
    try:
        found = await to_thread.run_sync(storage.delete_picture, image_id)
    except OSError as e:
        log.warning("a hosted picture cannot be removed: %s", e.strerror or e)
        raise problem(500, "The image cannot be removed") from e
    if not found:
        raise problem(404, "Image not found")
    return Response(status_code=204)
