"""Errors under `/v1` in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

The `openai` package shows no other message. So this layer reshapes every error there, also those of layers
that know nothing of the interface: keys, rate limits, a full service, bugs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from fastapi import HTTPException
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.errors import ErrorCode
from clipmod_cli.server.problems import retry_headers, status_of

PREFIX: Final = "/v1"

TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
"""By status; others are `invalid_request_error` under 500 and `server_error` from there on."""

CODES: Final = {401: "invalid_api_key", 429: "rate_limit_exceeded"}

_IMAGE_CODES: Final[dict[ErrorCode, str]] = {
    "empty_file": "empty_image_file",
    "unsupported_format": "invalid_image_format",
    "not_an_image": "invalid_image_format",
    "decode_error": "image_parse_error",
    "file_too_large": "image_file_too_large",
    "download_too_large": "image_file_too_large",
    "too_many_pixels": "image_too_large",
    "invalid_url": "invalid_image_url",
}
"""OpenAI's code for an error code of clipmod."""


def refusal(
    status: int, message: str, code: str, param: str | None = None, reason: str | None = None
) -> HTTPException:
    """Return the exception for an error.

    Args:
        status: HTTP status.
        message: a sentence for a person.
        code: OpenAI's.
        param: where in the request the fault is, as `input[0].image_url.url`.
        reason: error code of clipmod's closed list.
    """
    told = {"message": message, "param": param, "code": code}
    return HTTPException(status, told | ({"reason": reason} if reason else {}), headers=retry_headers(status))


def picture_refusal(code: ErrorCode, message: str, param: str, *, downloading: bool = False) -> HTTPException:
    """Return the exception for a picture that could not be judged.

    A failed download is 400 whatever failed: another picture may do, and clients repeat what is 500 or more.
    """
    status = status_of(code)
    if downloading and code not in _IMAGE_CODES:
        return refusal(400, message, "failed_to_download_image", param, code)
    default = "invalid_image" if status < 500 else "server_error"
    return refusal(status, message, _IMAGE_CODES.get(code, default), param, code)


def error_of(status: int, detail: Any) -> dict[str, Any]:
    """Return the body of an error from what stood in `detail`."""
    known = detail if isinstance(detail, dict) and "message" in detail else {"message": _sentence(detail)}
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"type": kind, "param": None, "code": CODES.get(status), **known}}


def _sentence(detail: Any) -> str:
    """Return a sentence, also for FastAPI's list of invalid parameters."""
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in detail)
    return str(detail)


@dataclass
class OpenaiErrorMiddleware:
    """Reshapes the errors of all paths under `/v1`."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; a JSON error without OpenAI's shape is answered in it."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == PREFIX or path.startswith(f"{PREFIX}/")):
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _ReshapedError(send).send)


@dataclass
class _ReshapedError:
    """One answer: held back while it is an error, until its body is complete."""

    inner_send: Send
    start: Message | None = None
    body: bytes = b""

    async def send(self, message: Message) -> None:
        """Send a message, or hold it back."""
        if message["type"] == "http.response.start" and _is_json_error(message):
            self.start = message
        elif self.start is None or message["type"] != "http.response.body":
            await self.inner_send(message)
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish(self.start)

    async def _finish(self, start: Message) -> None:
        body = _reshaped(start["status"], self.body)
        if body != self.body:
            MutableHeaders(scope=start)["Content-Length"] = str(len(body))
        await self.inner_send(start)
        await self.inner_send({"type": "http.response.body", "body": body})


def _is_json_error(start: Message) -> bool:
    kind = MutableHeaders(scope=start).get("content-type", "")
    return start["status"] >= 400 and kind.startswith("application/json")


def _reshaped(status: int, body: bytes) -> bytes:
    told = json.loads(body) if body else None  # no body: an answer to HEAD
    if not isinstance(told, dict) or "detail" not in told:
        return body
    return json.dumps(error_of(status, told["detail"])).encode()
