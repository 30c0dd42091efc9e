"""Facts about one request, for the access log, the metrics, the request rows and the gate.

`ObserverMiddleware`, the outermost layer, creates a `RequestInfo`; inner layers and endpoints add to it.
Observers are called when the request starts and when it has finished.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.server.fairness.callers import REQUEST, network_of

SCOPE_KEY: Final = "clipmod.request_info"
CLIENT_CLOSED: Final = 499
"""Counted where the client disconnected before an answer began (nginx's code); never sent."""

VALID_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Request ids that are accepted from clients; nothing that could forge or flood a log line."""

TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-.*)?"
)
"""W3C Trace Context. Versions after 00 may have more at the end."""

PROBES: Final = frozenset({"/healthz", "/readyz"})
REASONS: Final = (
    "protocol",
    "key",
    "host",
    "origin",
    "encoding",
    "rate",
    "slow",
    "busy",
    "share",
    "unready",
    "draining",
)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Values of the metrics' method label; any other method is counted as OTHER."""


@dataclass(slots=True, kw_only=True)
class RequestInfo:
    """One request.

    Attributes:
        key_id: short id of its API key; empty without a valid one.
        trace_id: of the `traceparent` header; empty without a valid one.
        refused: why the gate refused it (one of `REASONS`); else empty.
        route: path template of the endpoint; empty where none matched.
        status: of the answer; 499 where none began.
        images: pictures and videos that were judged.
        judged_by: key of the panel, or the model's name.
        error: an error code or a sentence.
        arrived: `time.perf_counter()` when its first byte was there.
    """

    id: str
    method: str
    path: str
    client: str
    key_id: str = ""
    trace_id: str = ""
    refused: str = ""
    route: str = ""
    status: int = CLIENT_CLOSED
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    images: int = 0
    judged_by: str | None = None
    error: str | None = None
    arrived: float = field(default_factory=time.perf_counter, compare=False)

    @property
    def wall_ms(self) -> float:
        """Milliseconds since it arrived, its upload included."""
        return round((time.perf_counter() - self.arrived) * 1000, 3)

    @property
    def is_probe(self) -> bool:
        """Whether it is a health probe."""
        return self.path in PROBES

    @property
    def caller(self) -> str:
        """Who it is counted for: its key, else its address, an IPv6 one by its network."""
        return self.key_id or network_of(self.client)


class RequestObserver(Protocol):
    """Called for every request, in the event loop: must not block."""

    def started(self, info: RequestInfo) -> None:
        """A request arrived."""
        ...

    def finished(self, info: RequestInfo) -> None:
        """Its answer was sent, or the client disconnected."""
        ...


def request_info_of(scope: Scope) -> RequestInfo:
    """Return the facts about a request; a new object where the outermost layer is missing."""
    if SCOPE_KEY not in scope:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        client = scope.get("client")
        scope[SCOPE_KEY] = RequestInfo(
            id=given if VALID_ID.fullmatch(given) else uuid.uuid4().hex,
            method=scope["method"] if scope["method"] in METHODS else "OTHER",
            path=scope["path"],
            client=client[0] if client else "",
            trace_id=_trace_id_of(headers.getlist("traceparent")),
        )
    found: RequestInfo = scope[SCOPE_KEY]
    return found


def is_judging(scope: Scope, paths: tuple[str, ...]) -> bool:
    """Return whether a request is to be judged: a POST to a path that begins like one of these."""
    return scope["type"] == "http" and scope["method"] == "POST" and str(scope["path"]).startswith(paths)


def declared_bytes(scope: Scope) -> int:
    """Return the size that a request declares for its body; 0 where it declares none."""
    given = Headers(scope=scope).get("content-length", "")
    return int(given) if given.isascii() and given.isdigit() else 0


def _trace_id_of(given: list[str]) -> str:
    match = TRACEPARENT.fullmatch(given[0].strip()) if len(given) == 1 else None
    return "" if match is None or (match["more"] and match[0].startswith("00")) else match["trace"]


@dataclass
class ObserverMiddleware:
    """Notifies observers, and puts an id on every answer. Drops WebSocket connections."""

    app: ASGIApp
    observers: Sequence[RequestObserver] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and notify the observers before and after."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":
            return
        info = request_info_of(scope)
        REQUEST.set(info)  # a request has a task of its own
        for one in self.observers:
            one.started(info)
        try:
            await self.app(scope, _counted_in(receive, info), _counted_out(send, info))
        finally:
            info.seconds = time.perf_counter() - info.arrived
            info.route = _template_of(scope)
            for one in self.observers:
                one.finished(info)


def _template_of(scope: Scope) -> str:
    """Return the path template of the endpoint that answered; empty where none matched.

    The number of values is bounded by the number of endpoints.
    """
    if route := scope.get("route"):
        path: str = getattr(route, "path", "")
        missing = scope["path"].count("/") - path.count("/")
        # an included router's prefix is not in its routes' own paths
        return path if ":path}" in path else "/".join(scope["path"].split("/")[: missing + 1]) + path
    if "endpoint" not in scope:
        return ""
    mounted: str = scope.get("root_path", "")
    return f"{mounted}/*" if mounted else str(scope["path"])


def _counted_in(receive: Receive, info: RequestInfo) -> Receive:
    async def counted() -> Message:
        message = await receive()
        info.bytes_in += len(message.get("body", b""))
        return message

    return counted


def _counted_out(send: Send, info: RequestInfo) -> Send:
    async def counted(message: Message) -> None:
        if message["type"] == "http.response.start":
            info.status = message["status"]
            MutableHeaders(scope=message)["X-Request-ID"] = info.id
        info.bytes_out += len(message.get("body", b""))
        await send(message)

    return counted
