"""Checks the Origin header: pages of other origins may not send requests that change something.

Browsers name the page in `Origin`, programs do not. What other pages may *read* is the matter of
Starlette's CORSMiddleware (`stack`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from clipmod_cli.errors import UsageError
from clipmod_cli.server.gate.guard import Guard, refuse

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
ELSEWHERE: Final = frozenset({"cross-site", "same-site"})


@dataclass
class OriginMiddleware(Guard):
    """Refuses requests from pages of other origins than `origins`; `*` among them allows all."""

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
