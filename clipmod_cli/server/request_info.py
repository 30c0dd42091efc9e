"""What is known of one request, from its first byte to its last: for the log, the metrics and the gate.

`ObserverMiddleware`, the outermost layer of the application, makes a `RequestInfo`; inner layers add to it,
and observers are called when the request begins and ends. Decides nothing.
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

KEY: Final = "clipmod.asked"
GONE: Final = 499
"""What is counted where the client left before an answer began; nobody sees it (nginx says it so too)."""

SANE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What is taken over as a request's id: nothing that could forge or flood a line of a log."""

PROBES: Final = frozenset({"/healthz", "/readyz"})
REASONS: Final = ("key", "host", "origin", "rate", "slow", "busy")
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What a label may be; a client can invent any other."""


@dataclass(slots=True, kw_only=True)
class RequestInfo:
    """One request.

    Attributes:
        who: the short id of the key that it came with; empty without a valid one.
        refused: why it was turned away, in a word (`REASONS`); else empty.
        status: of the answer; 499 where none began.
        images: how many pictures and videos were judged.
        judged_by: the key of who judged, or the model's name.
        error: what went wrong, as a code or a sentence.
        concurrent: how many requests for a judgement were under way when it came, itself among them.
    """

    id: str
    method: str
    path: str
    client: str
    who: str = ""
    refused: str = ""
    route: str = ""
    status: int = GONE
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    images: int = 0
    judged_by: str | None = None
    error: str | None = None
    concurrent: int = 1

    @property
    def is_probe(self) -> bool:
        """Whether a machine asks this every few seconds."""
        return self.path in PROBES


class RequestObserver(Protocol):
    """Is told of every request, in the event loop: must not block."""

    def begun(self, asked: RequestInfo) -> None:
        """Learn that a request came."""
        ...

    def ended(self, asked: RequestInfo) -> None:
        """Learn how it ended."""
        ...


def request_info_of(scope: Scope) -> RequestInfo:
    """Return what is known of the request; an empty one where the outermost layer is not there."""
    if KEY not in scope:
        scope[KEY] = _begin(scope)
    found: RequestInfo = scope[KEY]
    return found


def mark_refused(scope: Scope, reason: str) -> None:
    """Note why a request was turned away."""
    request_info_of(scope).refused = reason


@dataclass
class ObserverMiddleware:
    """The application with observers, and with an id on every request and answer."""

    app: ASGIApp
    observers: Sequence[RequestObserver] = field(default_factory=tuple)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and tell the observers. There are no web sockets: none gets further."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        asked, begun = request_info_of(scope), time.perf_counter()
        for one in self.observers:
            one.begun(asked)
        try:
            await self.app(scope, _counted_in(receive, asked), _counted_out(send, asked))
        finally:
            asked.seconds = time.perf_counter() - begun
            asked.route = template_of(scope)
            for one in self.observers:
                one.ended(asked)


def template_of(scope: Scope) -> str:
    """Return the path of the endpoint that answered, its variables as `{name}`; empty where there was none.

    There are as many of these as endpoints, whatever clients ask for.
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


def _begin(scope: Scope) -> RequestInfo:
    given = Headers(scope=scope).get("x-request-id", "")
    client = scope.get("client")
    return RequestInfo(
        id=given if SANE_ID.fullmatch(given) else uuid.uuid4().hex,
        method=scope["method"] if scope["method"] in METHODS else "OTHER",
        path=scope["path"],
        client=client[0] if client else "",
    )


def _counted_in(receive: Receive, asked: RequestInfo) -> Receive:
    async def counted() -> Message:
        message = await receive()
        asked.bytes_in += len(message.get("body", b""))
        return message

    return counted


def _counted_out(send: Send, asked: RequestInfo) -> Send:
    async def counted(message: Message) -> None:
        if message["type"] == "http.response.start":
            asked.status = message["status"]
            MutableHeaders(scope=message)["X-Request-ID"] = asked.id
        asked.bytes_out += len(message.get("body", b""))
        await send(message)

    return counted
