"""Refusals of files that an endpoint would pass over: in another field of a form, or one too many.

A client that sends a picture under a wrong name must not take the answer for an answer about that picture.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile

from clipmod_cli.server.problems import problem

SHOWN_CHARS: Final = 100
"""Of a field's name in a message."""


def stray_part(name: str, field: str) -> HTTPException:
    """Return the refusal of a part called `name` where the endpoint's files are in `field`."""
    if name == field:
        return problem(400, f"The field {field!r} must be a file: give it a filename")
    shown = name[:SHOWN_CHARS]
    return problem(
        400, f"There is a file in the field {shown!r}. This endpoint takes files in {field!r} only"
    )


def files_only_in(field: str, *, several: bool = False) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that refuses forms with files elsewhere than in `field`, or with a field twice.

    Args:
        field: its name.
        several: it may hold several files.
    """

    async def check(request: Request) -> None:
        form = await request.form()  # parsed already: FastAPI reads the body before dependencies
        seen: set[str] = set()
        for name, value in form.multi_items():
            if _is_stray(name, value, field):
                raise stray_part(name, field)
            if name in seen and not (several and name == field):
                raise problem(400, f"The field {name[:SHOWN_CHARS]!r} is given more than once")
            seen.add(name)

    return check


def _is_stray(name: str, value: UploadFile | str, field: str) -> bool:
    """Return whether it is a file in another field, or a text in that of the files; not if it is empty."""
    if isinstance(value, UploadFile):
        return name != field and bool(value.filename or value.size)
    return name == field and bool(value)
