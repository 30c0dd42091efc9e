"""From which page a request that changes something comes: no page elsewhere may send one.

Browsers name the page in `Origin`, programs do not. What a page elsewhere may *read* is said by
Starlette's CORSMiddleware (`stack`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from clipmod_cli.errors import UsageError
from clipmod_cli.server.gate.refusal import refuse

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
ELSEWHERE: Final = frozenset({"cross-site", "same-site"})


@dataclass
class OriginMiddleware:
    """Turns away what pages of other origins send; `origins` may, and `*` among them means all."""

    app: ASGIApp
    origins: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "lifespan" or scope["method"] in READS or self._may(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        await refuse(
            scope, receive, send,
            reason="origin",
            status=403,
            detail="A page of another origin may not send this. The operator can allow it with "
            "--cors-origin ORIGIN",
        )  # fmt: skip

    def _may(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "") not in ELSEWHERE
        return (
            "*" in self.origins or origin.lower() in self.origins or _is_own(origin, headers.get("host", ""))
        )


def read_origin(text: str, flag: str) -> str:
    """Return the origin that a setting names.

    Raises:
        UsageError: if it is none.
    """
    try:
        parts = urlsplit(text.strip())
        if parts.scheme.lower() in DEFAULT_PORTS and parts.hostname:
            return origin_of(text)
    except ValueError:  # a port that is none, brackets that do not close
        pass
    raise UsageError(f"{flag} {text!r} is no address of a page; write it as https://example.org")


def origin_of(url: str) -> str:
    """Return the origin of a URL, as a browser writes it.

    Raises:
        ValueError: if its port is none.
    """
    parts = urlsplit(url.strip().lower())
    port = "" if parts.port in {None, DEFAULT_PORTS.get(parts.scheme)} else f":{parts.port}"
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{name}{port}"


def _is_own(origin: str, host: str) -> bool:
    """Return whether a page came from the very host that is asked; the scheme may be a proxy's."""
    try:
        parts = urlsplit(origin.lower())
        known = parts.scheme in DEFAULT_PORTS and bool(parts.hostname)
        return known and origin_of(f"{parts.scheme}://{host}") == origin_of(origin)
    except ValueError:
        return False
