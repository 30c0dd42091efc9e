"""From what went wrong to an answer: the status of each error code, and handlers for what is raised.

Every error is `{"detail": ...}`, as the documents print it. Nothing of an internal address, a path or
a traceback leaves here.
"""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from clipmod_cli.errors import ERROR_CODES, ClipmodError, ErrorCode
from clipmod_cli.server.request_info import mark_refused
from clipmod_cli.server.service import BusyError

RETRY_S: Final = 1
"""What `Retry-After` says of a queue that is full: the next batch is done by then."""

BUSY: Final = "The service is busy. Try again soon"

BUG: Final = "Error processing request: internal error"
"""What is said of anything unexpected (`clipmod_cli.server.gate.internal_errors`)."""


def status_of(code: ErrorCode) -> int:
    """Return the HTTP status of an item's failure."""
    return ERROR_CODES[code].http_status


def retry_headers(status: int) -> dict[str, str]:
    """Return `Retry-After` where the same request may well succeed soon."""
    return {"Retry-After": str(RETRY_S)} if status in {429, 503} else {}


def handle_problems(app: FastAPI) -> None:
    """Have everything that is raised on purpose answered with its status and sentence."""

    @app.exception_handler(BusyError)
    async def busy(request: Request, _error: Exception) -> JSONResponse:
        mark_refused(request.scope, "busy")
        return _answer(503, BUSY)

    @app.exception_handler(ClipmodError)
    async def ours(_request: Request, error: Exception) -> JSONResponse:
        status = error.http_status if isinstance(error, ClipmodError) else 500
        return _answer(status, str(error))


def problem(status: int, detail: str) -> HTTPException:
    """Return what to raise for an answer with this status and sentence."""
    return HTTPException(status, detail, headers=retry_headers(status))


def _answer(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers=retry_headers(status))
