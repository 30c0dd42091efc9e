"""Errors as HTTP answers: the status of each error code, and the handlers of exceptions.

Every error is `{"detail": ...}`, as the documents print it, without internal addresses, paths or tracebacks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException

from clipmod_cli.errors import ERROR_CODES, ClipmodError, ErrorCode
from clipmod_cli.server.fairness.places import BusyError, OverShareError
from clipmod_cli.server.protocol.methods import allowed_methods
from clipmod_cli.server.request_info import request_info_of
from clipmod_cli.types import UnseenReason

RETRY_S: Final = 1
"""Seconds in `Retry-After` of a full service: the next batch is done by then."""

BUSY: Final = "The service is busy. Try again soon"

OVER_SHARE: Final = "Too many requests at once from one caller. Try again soon"

MOST_FAULTS: Final = 10
"""Shown of the faults of one request; a list of a million numbers has a million."""

TEXT_CHARS: Final = 200
"""Of a message or a name in a fault."""

MOST_LEVELS: Final = 8

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
    """Answer exceptions with their status and message."""
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(AnyHTTPException, _refused)
    app.add_exception_handler(ClipmodError, _ours)


async def _busy(request: Request, error: Exception) -> Response:
    status, reason, detail = refusal_of_place(error)
    request_info_of(request.scope).refused = reason
    return _answer(status, detail)


async def _invalid(request: Request, error: Exception) -> Response:
    if (mistaken := _wrong_media(request)) is not None:
        return _answer(415, mistaken)
    return answer_of(cast("RequestValidationError", error))


def answer_of(error: HTTPException | RequestValidationError) -> Response:
    """Return the answer to a refused request, for endpoints that send by themselves."""
    if isinstance(error, HTTPException):
        return _answer(error.status_code, error.detail, error.headers)
    return JSONResponse({"detail": _faults(error.errors())}, 422)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, AnyHTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(allowed_methods(request.scope))
    return _answer(error.status_code, error.detail, headers)


async def _ours(_request: Request, error: Exception) -> Response:
    status = error.http_status if isinstance(error, ClipmodError) else 500
    return _answer(status, str(error))


def refusal_of_place(error: Exception) -> tuple[int, str, str]:
    """Return status, reason (one of `REASONS`) and message of a request without a place."""
    return (429, "share", OVER_SHARE) if isinstance(error, OverShareError) else (503, "busy", BUSY)


def problem(status: int, detail: str) -> HTTPException:
    """Return the exception for an answer with this status and message."""
    return HTTPException(status, detail, headers=retry_headers(status))


def _answer(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return _SafeJSON({"detail": detail}, status, headers=retry_headers(status) | dict(headers or {}))


class _SafeJSON(JSONResponse):
    """JSON of any text: what no UTF-8 can hold, half of a surrogate pair, is written as JSON's own escape."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(
            errors="backslashreplace"
        )


def _faults(faults: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the faults without what was sent, which may be large or secret, and at most `MOST_FAULTS`."""
    shown: list[dict[str, Any]] = [
        {
            "type": one["type"],
            "loc": [_short(at) for at in one["loc"][:MOST_LEVELS]],
            "msg": _short(one["msg"]),
        }
        for one in faults[:MOST_FAULTS]
    ]
    if (more := len(faults) - len(shown)) > 0:
        shown.append({"type": "more_errors", "loc": [], "msg": f"{more} more like these"})
    return shown


def _short(text: int | str) -> int | str:
    return text if isinstance(text, int) else text[:TEXT_CHARS].encode(errors="replace").decode()


def _wrong_media(request: Request) -> str | None:
    """Return that the body is of another kind than the endpoint takes; None where it is of the right one."""
    field = getattr(request.scope.get("route"), "body_field", None)
    wanted: str | None = getattr(getattr(field, "field_info", None), "media_type", None)
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if wanted is None or not given or given == wanted:
        return None
    is_json = given.startswith("application/") and given.endswith("+json")
    fits = is_json if wanted == _JSON else given in FORMS
    return None if fits else f"Send the body as {wanted}; this one is {given[:TEXT_CHARS]}"


_JSON: Final = "application/json"
FORMS: Final = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})
