"""API keys: their sources, and when they are required.

Keys come from `CLIPMOD_API_KEYS`, `API_KEYS` (the documented classifier service's name) and a file. Only
their digests are held in memory.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipmod_cli.errors import UsageError
from clipmod_cli.server.configuration import DocumentedEnvironment, documented_environment
from clipmod_cli.settings.definition import Settings

log = logging.getLogger(__name__)

SHORT: Final = 16
"""Characters; shorter keys can be guessed."""

ID_DIGITS: Final = 8
"""Hexadecimal digits of a key's digest in logs: enough to tell keys apart."""


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The valid keys, as digests; without any no key is required."""

    digests: tuple[bytes, ...] = ()

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return bool(self.digests)

    def find(self, given: bytes) -> str:
        """Return the short id of a valid key, else an empty text. Takes constant time."""
        digest = hashlib.sha256(given).digest()
        same = [hmac.compare_digest(digest, one) for one in self.digests]
        return digest.hex()[:ID_DIGITS] if any(same) else ""


def keys_of(settings: Settings, environment: DocumentedEnvironment | None = None) -> ApiKeys:
    """Return the keys of the settings and the environment (default: this process's).

    Raises:
        UsageError: if keys are required (another address than loopback without `--no-auth`, or
            USE_API_KEYS) and there are none, or if the key file is unusable.
    """
    if settings.no_auth:
        return ApiKeys()
    named = environment or documented_environment()
    if named.use_api_keys is False and is_loopback(settings.host):
        return ApiKeys()
    if found := [*settings.api_keys, *named.api_keys, *_read_file(settings.api_keys_file)]:
        if short := sum(len(key) < SHORT for key in found):
            message = "%d of the API keys have fewer than %d characters and can be guessed; make one: %s"
            log.warning(message, short, SHORT, "`openssl rand -hex 24`")
        return ApiKeys(tuple({hashlib.sha256(key.encode()).digest(): None for key in found}))
    if named.use_api_keys:
        raise UsageError(
            "USE_API_KEYS requires API keys and there are none. Set CLIPMOD_API_KEYS, or unset USE_API_KEYS"
        )
    if not is_loopback(settings.host):
        raise UsageError(
            f"--host {settings.host} can be reached from other machines. Set API keys (CLIPMOD_API_KEYS or "
            "--api-keys-file), or disable authentication with --no-auth"
        )
    return ApiKeys()


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only."""
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
        raise UsageError(
            f"{path} holds no API key. Write one a line, for example from `openssl rand -hex 24`"
        )
    return keys
