"""API keys: where they come from, when they are asked for, and whose one is.

Keys come from `CLIPMOD_API_KEYS`, `API_KEYS` (the classifier service's own name) and a file. Only their
digests are kept. Whether a request carries one is `identity`'s matter.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from clipmod_cli.errors import UsageError
from clipmod_cli.server.environment import DocumentedEnvironment, documented_environment
from clipmod_cli.server.gate.login import COOKIE, LOGIN_PATH, STYLE_PATH, Sessions, login_page
from clipmod_cli.server.gate.refusal import refuse
from clipmod_cli.server.request_info import PROBES, mark_refused, request_info_of
from clipmod_cli.settings import Settings

log = logging.getLogger(__name__)

SHORT: Final = 16
"""Characters below which a key can be guessed by trying."""

ID_DIGITS: Final = 8
"""Hexadecimal digits of a key's digest that logs show: enough to tell keys apart."""


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys that count, as digests; none means that everybody may ask."""

    digests: tuple[bytes, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether a request needs a key."""
        return bool(self.digests)

    def find(self, given: bytes) -> str:
        """Return the short id of the key that was given, or nothing if it is none of ours.

        Takes the same time whichever it is: digests are compared, each to its end, and all of them.
        """
        digest = hashlib.sha256(given).digest()
        same = [hmac.compare_digest(digest, one) for one in self.digests]
        return digest.hex()[:ID_DIGITS] if any(same) else ""


def keys_of(settings: Settings, environment: DocumentedEnvironment | None = None) -> ApiKeys:
    """Return the keys that requests must carry, by settings and environment (default: this process's).

    Raises:
        UsageError: if there is no key where others could ask and nobody said `--no-auth`, if the
            key file cannot be used, or if keys are asked for and none is there.
    """
    if settings.no_auth:
        return ApiKeys()
    named = environment or documented_environment()
    if named.use_api_keys is False and is_loopback(settings.host):
        return ApiKeys()
    if found := [*settings.api_keys, *named.api_keys, *_read_file(settings.api_keys_file)]:
        _warn_of_short(found)
        return ApiKeys(tuple({hashlib.sha256(key.encode()).digest(): None for key in found}))
    if named.use_api_keys:
        raise UsageError("USE_API_KEYS asks for keys, and there is none. Set CLIPMOD_API_KEYS, or unset it")
    if not is_loopback(settings.host):
        raise UsageError(
            f"--host {settings.host} lets others ask this service. Give it keys (CLIPMOD_API_KEYS or "
            "--api-keys-file), or --no-auth to let everybody ask"
        )
    return ApiKeys()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_file(name: str | None) -> list[str]:
    if name is None:
        return []
    path = Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not text in UTF-8"
        raise UsageError(f"cannot read the API keys in {path}: {reason}") from e
    lines = (line.strip() for line in text.splitlines())
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise UsageError(f"{path} holds no API key. Write one a line, as of `openssl rand -hex 24`")
    return keys


def _warn_of_short(keys: Iterable[str]) -> None:
    if short := sum(len(key) < SHORT for key in keys):
        log.warning(
            "%d of the API keys have fewer than %d characters and can be guessed; `openssl rand -hex 24` "
            "makes a good one",
            short,
            SHORT,
        )


OPEN: Final = PROBES | {LOGIN_PATH, STYLE_PATH}
PAGE: Final = frozenset({"/ui", "/ui/"})
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="clipmod"'}
DETAIL: Final = "An API key is needed: send it as X-API-Key or Authorization: Bearer"


@dataclass
class IdentityMiddleware:
    """Notes whose key or session a request came with."""

    app: ASGIApp
    keys: ApiKeys
    sessions: Sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with who asks."""
        if scope["type"] == "http" and self.keys.wanted:
            request_info_of(scope).who = self._who(scope)
        await self.app(scope, receive, send)

    def _who(self, scope: Scope) -> str:
        given = _key_in(scope)
        if given is not None:  # a wrong key is not made good by a cookie
            return self.keys.find(given)
        cookie = HTTPConnection(scope).cookies.get(COOKIE)
        return self.sessions.find(cookie) if cookie else ""


@dataclass
class KeyMiddleware:
    """Lets only those through who are known, but for the probes and the login."""

    app: ASGIApp
    keys: ApiKeys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401: with the login page where a person asked for the page."""
        free = not self.keys.wanted or scope["type"] == "lifespan"
        if free or scope["path"] in OPEN or request_info_of(scope).who:
            await self.app(scope, receive, send)
        elif scope["path"] in PAGE and scope["method"] in {"GET", "HEAD"}:
            mark_refused(scope, "key")
            await login_page(401)(scope, receive, send)
        else:
            await refuse(
                scope, receive, send, reason="key", status=401, detail=DETAIL, headers=CHALLENGE
            )  # fmt: skip


def _key_in(scope: Scope) -> bytes | None:
    """Return the key in the headers, as bytes; None where there is none."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if (given := headers.get(b"x-api-key")) is not None:
        return given.strip()
    kind, _, value = headers.get(b"authorization", b"").strip().partition(b" ")
    return value.strip() if kind.lower() == b"bearer" else None
