"""Checks the Host header: protection against DNS rebinding.

Without API keys, a page elsewhere could point its own name at this address and read every answer. So only
names that such a page cannot have are accepted: IP addresses, localhost and the operator's own. With keys
any name is accepted, because the page has no key.

Starlette's TrustedHostMiddleware accepts neither every IP address nor a request without the header.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import Scope

from clipmod_cli.server.gate.guard import Guard, refuse
from clipmod_cli.settings.definition import Settings

HOST: Final = re.compile(rb"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass
class HostMiddleware(Guard):
    """Accepts known names only; any where `names` is None."""

    names: frozenset[str] | None

    def refusal(self, scope: Scope) -> Response | None:
        """Return 400 for an unknown name."""
        if self._is_known(scope):
            return None
        detail = (
            "The name in the Host header is not allowed. The operator can add it with --allowed-host NAME"
        )
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
