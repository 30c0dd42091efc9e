"""Guarded uploads for FastAPI: a dependency in place of the file.

    @app.post("/avatar")
    async def avatar(file: Annotated[UploadFile, Depends(clean_upload("file"))]) -> None: ...

The endpoint runs with clean files only, each at its beginning. Otherwise the answer is 422 (flagged, or it
could not be read), 413 (too large) or 503 (it could not be judged now), with a sentence that holds no score.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions that are made here.

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated

from fastapi import File, HTTPException, UploadFile

from clipmod_cli.integrations.guard import UploadGuard
from clipmod_cli.integrations.per_process import PerProcess
from clipmod_cli.integrations.uploads import (
    MESSAGES,
    RETRY_AFTER_S,
    STATUS,
    NamedUpload,
    Outcome,
    checked_messages,
)

__all__ = ["check_uploads", "clean_upload", "clean_uploads"]

_usual = PerProcess(UploadGuard)
"""The guard by the environment and the settings file, for all endpoints that name none."""


def clean_upload(
    field: str = "file",
    *,
    guard: UploadGuard | None = None,
    messages: Mapping[Outcome, str] = MESSAGES,
) -> Callable[..., Awaitable[UploadFile]]:
    """Return a dependency: the file in this field of the form, once it was found clean.

    Args:
        field: its name in the form; it is required.
        guard: what judges; default one by the environment and the settings file, shared by all endpoints.
        messages: what the sender is told, in place of those in `uploads.MESSAGES`.

    Raises:
        SettingsError: a message is for no outcome.
    """
    messages = checked_messages(messages)

    async def clean(upload: Annotated[UploadFile, File(alias=field)]) -> UploadFile:
        await check_uploads([upload], guard=guard, messages=messages)
        return upload

    return clean


def clean_uploads(
    field: str = "files",
    *,
    guard: UploadGuard | None = None,
    messages: Mapping[Outcome, str] = MESSAGES,
) -> Callable[..., Awaitable[list[UploadFile]]]:
    """Return a dependency: all files in this field of the form, once each was found clean.

    Args:
        field: as for `clean_upload`, likewise the others.
        guard: what judges.
        messages: what the sender is told.

    Raises:
        SettingsError: a message is for no outcome.
    """
    messages = checked_messages(messages)

    async def clean(uploads: Annotated[list[UploadFile], File(alias=field)]) -> list[UploadFile]:
        await check_uploads(uploads, guard=guard, messages=messages)
        return uploads

    return clean


async def check_uploads(
    uploads: Iterable[UploadFile],
    *,
    guard: UploadGuard | None = None,
    messages: Mapping[Outcome, str] = MESSAGES,
) -> None:
    """Return if all uploads are clean, for endpoints that take files in ways of their own.

    Args:
        uploads: each is at its beginning afterwards.
        guard: what judges; default as for `clean_upload`.
        messages: what the sender is told.

    Raises:
        HTTPException: 422, 413 or 503.
    """
    messages = checked_messages(messages)
    named = [NamedUpload(one.file, one.filename or "") for one in uploads]
    for check in await (guard or _usual.get()).check_all_async(named):
        if not check.is_clean:
            status = STATUS[check.outcome]
            headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
            raise HTTPException(status, messages[check.outcome], headers)
