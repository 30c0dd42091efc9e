"""By what name the service is called: the guard against DNS rebinding.

Where no key is asked for, a page elsewhere could give its own name our address and read every answer.
So only names are answered to that such a page cannot have: addresses, localhost, and those that the
operator named. A service with keys answers to any: the page has none.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from clipmod_cli.server.gate.refusal import refuse
from clipmod_cli.settings import Settings

HOST: Final = re.compile(rb"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass
class HostMiddleware:
    """Answers only to known names; to any where `names` is None."""

    app: ASGIApp
    names: frozenset[str] | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400."""
        if scope["type"] == "lifespan" or self._is_ours(scope):
            await self.app(scope, receive, send)
            return
        await refuse(
            scope, receive, send,
            reason="host",
            status=400,
            detail="This service does not go by the name in the Host header. Its operator can allow it "
            "with --allowed-host NAME",
        )  # fmt: skip

    def _is_ours(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"host"]
        if not given:  # HTTP/1.0, as some load balancers probe; a browser always sends one
            return True
        match = HOST.fullmatch(given[0].strip())
        if len(given) > 1 or match is None:
            return False
        name = match["name"].decode().strip("[]").rstrip(".").lower()
        return self.names is None or name in self.names or _is_address(name)


def names_of(settings: Settings) -> frozenset[str] | None:
    """Return the names that a service without keys answers to; None for any."""
    if "*" in settings.allowed_host:
        return None
    public = urlsplit(settings.public_url or "").hostname or ""
    names = {"localhost", settings.host, public, *settings.allowed_host} - {""}
    return frozenset(name.lower().rstrip(".") for name in names)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
