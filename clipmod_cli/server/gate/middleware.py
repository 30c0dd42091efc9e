"""Layers: security headers, answers to exceptions, timeouts of slow bodies, refusals by headers.

The latter are `Guard`s. Rate limits are in `rate`, keys in `keys` and `authentication`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.errors import UsageError
from clipmod_cli.server.problems import BUG
from clipmod_cli.server.protocol.fault import SCOPE_KEY as FAULT_KEY
from clipmod_cli.server.protocol.fault import ProtocolFault
from clipmod_cli.server.request_info import request_info_of
from clipmod_cli.settings.definition import Settings

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS: Final[dict[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    # not no-referrer: under that, browsers send "Origin: null" with a form's POST, ours among them
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": CSP,
    # answers describe pictures of people: not to be cached
    "Cache-Control": "no-store",
}


@dataclass
class HeadersMiddleware:
    """Adds headers that the endpoint has not set; `embeddable` lets pages of other origins show pictures."""

    app: ASGIApp
    embeddable: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add what the answer's headers lack."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in added.items():
                    headers.setdefault(name, value)
            await send(message)

        added = HEADERS | ({"Cross-Origin-Resource-Policy": "cross-origin"} if self.embeddable else {})
        await self.app(scope, receive, completed)


log = logging.getLogger(__name__)


@dataclass
class InternalErrorMiddleware:
    """Answers 500 where the application raised; the details go to the log only."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Exceptions after the answer began are raised, which closes the connection."""
        began = False

        async def watched(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            log.debug("client disconnected while sending")
        except Exception:
            if scope["type"] != "http" or began:
                raise
            info = request_info_of(scope)
            log.exception("request %s (%s): internal error", info.id, info.method)
            await JSONResponse({"detail": BUG}, 500)(scope, receive, send)


PATIENCE_S: Final = 30.0
"""How long a client may be silent in total while it should be sending."""

BYTES_PER_S: Final = 4096
"""Each so many bytes earn another second: slower than any real connection."""


@dataclass
class BodyPaceMiddleware:
    """Answers 408 to a body that arrives too slowly, or closes the connection if an answer has begun.

    Counts only the time spent waiting for the client: neither a large upload nor a slow model is cut off.
    """

    app: ASGIApp
    patience_s: float = PATIENCE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a body that ends in time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _TimedBody(receive, send, self.patience_s)
        try:
            await self.app(scope, body.receive, body.send)
        except Exception:
            if not body.late:
                raise
        if body.late and not body.answer_began:
            answer = refuse(scope, "slow", 408, "The request's body came too slowly", {"Connection": "close"})
            await answer(scope, receive, send)


@dataclass
class _TimedBody:
    """One request's body. To the application a late body looks as if the client had disconnected."""

    inner_receive: Receive
    inner_send: Send
    left_s: float
    late: bool = False
    answer_began: bool = False
    complete: bool = False

    async def receive(self) -> Message:
        """Return the next message, or a disconnect where the time is up."""
        if self.complete:  # only a disconnect can follow
            return await self.inner_receive()
        start = time.monotonic()
        try:
            async with asyncio.timeout(max(self.left_s, 0)):
                message = await self.inner_receive()
        except TimeoutError:
            self.late = self.complete = True
            return {"type": "http.disconnect"}
        self.left_s += len(message.get("body", b"")) / BYTES_PER_S - (time.monotonic() - start)
        self.complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send, unless it is the application's answer to a supposed disconnect."""
        if self.late and not self.answer_began:
            return
        self.answer_began = True
        await self.inner_send(message)


@dataclass
class Guard(ABC):
    """A layer that answers in place of the application where `refusal` returns an answer."""

    app: ASGIApp

    @abstractmethod
    def refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a refused request; None to pass it on."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        refused = self.refusal(scope) if scope["type"] == "http" else None
        await (refused or self.app)(scope, receive, send)


def refuse(
    scope: Scope, reason: str, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `{"detail": ...}`, and note the reason (one of `REASONS`) for log and metrics."""
    request_info_of(scope).refused = reason
    return JSONResponse({"detail": detail}, status, headers=headers)


@dataclass
class ProtocolFaultMiddleware(Guard):
    """Answers a request that is not valid HTTP in place of the connection, which has no headers or log."""

    def refusal(self, scope: Scope) -> Response | None:
        """Return the answer to what the connection refused."""
        fault: ProtocolFault | None = scope.get(FAULT_KEY)
        if fault is None:
            return None
        return refuse(scope, "protocol", fault.status, fault.detail, {"Connection": "close"})


@dataclass
class EncodingMiddleware(Guard):
    """Refuses compressed bodies: what they unpack to has no limit, and pictures are compressed already."""

    def refusal(self, scope: Scope) -> Response | None:
        """Return 415 for a body with a Content-Encoding."""
        encoding = Headers(scope=scope).get("content-encoding", "identity").strip().lower()
        if encoding in {"identity", ""}:
            return None
        detail = "Compressed bodies are not taken. Send the body as it is, without Content-Encoding"
        return refuse(scope, "encoding", 415, detail, {"Accept-Encoding": "identity"})


HOST: Final = re.compile(rb"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass
class HostMiddleware(Guard):
    """Accepts known names in the Host header only, against DNS rebinding; any where `names` is None.

    Without API keys, a page elsewhere could point its own name at this address and read every answer. So
    only names that such a page cannot have are accepted: IP addresses, localhost and the operator's own.
    Starlette's TrustedHostMiddleware accepts neither every IP address nor a request without the header.
    """

    names: frozenset[str] | None

    def refusal(self, scope: Scope) -> Response | None:
        """Return 400 for an unknown name."""
        if self._is_known(scope):
            return None
        detail = "The name in the Host header is not allowed. The operator can add it with --server-name NAME"
        return refuse(scope, "host", 400, detail)

    def _is_known(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"host"]
        if not given:  # HTTP/1.0, sent by some load balancers; browsers always send the header
            return True
        match = HOST.fullmatch(given[0].strip())
        if len(given) > 1 or match is None:
            return False
        name = match["name"].decode().strip("[]").rstrip(".").lower()
        return self.names is None or name in self.names or _is_address(name)


def names_of(settings: Settings) -> frozenset[str] | None:
    """Return the names that a service without keys accepts; None for any."""
    if "*" in settings.server_name:
        return None
    public = urlsplit(settings.public_url or "").hostname or ""
    names = {"localhost", settings.host, public, *settings.server_name} - {""}
    return frozenset(name.lower().rstrip(".") for name in names)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
ELSEWHERE: Final = frozenset({"cross-site", "same-site"})


@dataclass
class OriginMiddleware(Guard):
    """Refuses changing requests from pages of other origins than `origins`; `*` among them allows all.

    Browsers name the page in `Origin`, programs do not. What other pages may *read* is the matter of
    Starlette's CORSMiddleware.
    """

    origins: frozenset[str]

    def refusal(self, scope: Scope) -> Response | None:
        """Return 403 for a page that is not allowed."""
        if scope["method"] in READS or self._is_allowed(Headers(scope=scope)):
            return None
        detail = (
            "A page of another origin may not send this. The operator can allow it with --cors-origin ORIGIN"
        )
        return refuse(scope, "origin", 403, detail)

    def _is_allowed(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "") not in ELSEWHERE
        return (
            "*" in self.origins or origin.lower() in self.origins or _is_own(origin, headers.get("host", ""))
        )


def read_origin(text: str, flag: str) -> str:
    """Return the origin in a setting.

    Raises:
        UsageError: if it is not an origin.
    """
    try:
        parts = urlsplit(text.strip())
        if parts.scheme.lower() in DEFAULT_PORTS and parts.hostname:
            return origin_of(text)
    except ValueError:  # an invalid port, unbalanced brackets
        pass
    raise UsageError(f"{flag} {text!r} is not an origin; write it as https://example.org")


def origin_of(url: str) -> str:
    """Return the origin of a URL, as a browser writes it.

    Raises:
        ValueError: if its port is invalid.
    """
    parts = urlsplit(url.strip().lower())
    port = "" if parts.port in {None, DEFAULT_PORTS.get(parts.scheme)} else f":{parts.port}"
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{name}{port}"


def _is_own(origin: str, host: str) -> bool:
    """Return whether a page came from this host; its scheme may be a proxy's."""
    try:
        parts = urlsplit(origin.lower())
        known = parts.scheme in DEFAULT_PORTS and bool(parts.hostname)
        return known and origin_of(f"{parts.scheme}://{host}") == origin_of(origin)
    except ValueError:
        return False
