"""Errors as HTTP answers: the status of each error code, and the handlers of exceptions.

Every error is `{"detail": ...}`, as the documents print it, without internal addresses, paths or tracebacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from clipmod_cli.errors import ERROR_CODES, ClipmodError, ErrorCode
from clipmod_cli.server.request_info import request_info_of
from clipmod_cli.server.service import BusyError
from clipmod_cli.types import UnseenReason

RETRY_S: Final = 1
"""Seconds in `Retry-After` of a full service: the next batch is done by then."""

BUSY: Final = "The service is busy. Try again soon"

BUG: Final = "Error processing request: internal error"
"""The answer to unexpected exceptions (`clipmod_cli.server.gate.middleware`)."""


def status_of(code: ErrorCode) -> int:
    """Return the HTTP status of an item's failure."""
    return ERROR_CODES[code].http_status


def retry_headers(status: int) -> dict[str, str]:
    """Return `Retry-After` where the same request may succeed soon."""
    return {"Retry-After": str(RETRY_S)} if status in {429, 503} else {}


def not_looked_at(reasons: Iterable[UnseenReason]) -> str:
    """Return why a picture is not called Safe."""
    return f"not all of it was looked at ({', '.join(reasons)})"


def handle_problems(app: FastAPI) -> None:
    """Answer clipmod's exceptions with their status and message."""

    @app.exception_handler(BusyError)
    async def busy(request: Request, _error: Exception) -> JSONResponse:
        request_info_of(request.scope).refused = "busy"
        return _answer(503, BUSY)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, RequestValidationError):
            raise error
        try:
            return await request_validation_exception_handler(request, error)
        except ValueError:  # the value is NaN or infinite, which an answer in JSON cannot hold
            faults = [{key: one[key] for key in ("type", "loc", "msg")} for one in error.errors()]
            return JSONResponse({"detail": faults}, 422)

    @app.exception_handler(ClipmodError)
    async def ours(_request: Request, error: Exception) -> JSONResponse:
        status = error.http_status if isinstance(error, ClipmodError) else 500
        return _answer(status, str(error))


def problem(status: int, detail: str) -> HTTPException:
    """Return the exception for an answer with this status and message."""
    return HTTPException(status, detail, headers=retry_headers(status))


def _answer(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers=retry_headers(status))
