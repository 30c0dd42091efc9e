"""API keys: where they come from, and which are valid. A key file is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from clipmod_cli.errors import UsageError
from clipmod_cli.server.configuration import DocumentedEnvironment, documented_environment
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.watched import Watched

log = logging.getLogger(__name__)

SHORT: Final = 16
"""Characters; shorter keys can be guessed."""

ID_DIGITS: Final = 8
"""Hexadecimal digits of a key's digest in logs: enough to tell keys apart."""


CHECK_EVERY_S: Final = 1.0
"""How often the key file is looked at, at most."""

Digests: TypeAlias = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The valid keys, as digests; without any no key is required.

    Attributes:
        fixed: those of the settings and the environment.
        file: those of the key file, which never has none.
    """

    fixed: Digests = ()
    file: Watched[Digests] | None = None

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return bool(self.fixed) or self.file is not None

    @property
    def digests(self) -> Digests:
        """All keys that are valid now."""
        return self.fixed if self.file is None else self.fixed + self.file.current()

    def find(self, given: bytes) -> str:
        """Return the short id of a valid key, else an empty text. Takes constant time."""
        digest = hashlib.sha256(given).digest()
        same = [hmac.compare_digest(digest, one) for one in self.digests]
        return _id_of(digest) if any(same) else ""

    def has(self, key_id: str) -> bool:
        """Return whether a key with this short id is valid."""
        return any(_id_of(one) == key_id for one in self.digests)


def _id_of(digest: bytes) -> str:
    return digest.hex()[:ID_DIGITS]


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
    fixed = _digests([*settings.api_keys, *named.api_keys])
    if (name := settings.api_keys_file) is not None:
        path = Path(name).expanduser()
        return ApiKeys(
            fixed, Watched("the API keys", [path], lambda: _digests(_read_file(path)), CHECK_EVERY_S)
        )
    if fixed:
        return ApiKeys(fixed)
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


def _digests(keys: Sequence[str]) -> Digests:
    if short := sum(len(key) < SHORT for key in keys):
        message = "%d of the API keys have fewer than %d characters and can be guessed; make one: %s"
        log.warning(message, short, SHORT, "`openssl rand -hex 24`")
    return tuple({hashlib.sha256(key.encode()).digest(): None for key in keys})


def _read_file(path: Path) -> list[str]:
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
