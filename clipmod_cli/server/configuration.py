"""Limits of requests from the settings, and the documented classifier service's environment variables.

DEFAULT_MODEL_NAME   the model of a request that names none
DEFAULT_SCORE        the minimum score of the query endpoints
ACCESS_TOKEN         the Hugging Face hub's token, for the classifiers' weights
API_KEYS             comma-separated keys, besides those of CLIPMOD_API_KEYS
USE_API_KEYS         false: require no key, on loopback only
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from clipmod_cli.errors import SettingsError
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.web.addresses import HostAndPort, allowed_hosts

MB = 1 << 20
"""Bytes: what all of these interfaces call MB is a MiB, as for their clients."""

FORM_BYTES = 65_536
"""Of a form beside its files: boundaries, headers, short fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """The limits in force.

    Attributes:
        download_s: of one download, also if the server is silent for so long.
        download_hosts: the operator's own, which may have private addresses.
    """

    image_bytes: int
    video_bytes: int
    multi_files: int
    multi_bytes: int
    url_count: int
    stream_files: int
    stream_bytes: int
    download_s: float
    download_hosts: frozenset[HostAndPort]


def request_limits_of(settings: Settings) -> RequestLimits:
    """Return the limits of the settings.

    Raises:
        SettingsError: a host that downloads may come from is invalid.
    """
    return RequestLimits(
        image_bytes=settings.max_image_mb * MB,
        video_bytes=settings.max_video_mb * MB,
        multi_files=settings.max_multi_files,
        multi_bytes=settings.max_multi_mb * MB,
        url_count=settings.max_url_count,
        stream_files=settings.max_stream_files,
        stream_bytes=settings.max_stream_mb * MB,
        download_s=settings.timeout,
        download_hosts=allowed_hosts(settings.allow_host),
    )


DEFAULT_SCORE = 0.7
"""The documented one."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentedEnvironment:
    """The values; None where unset. Empty counts as unset: compose files pass empty values on."""

    default_model: str | None = None
    default_score: float = DEFAULT_SCORE
    hub_token: str | None = field(default=None, repr=False)
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    use_api_keys: bool | None = None


def documented_environment(environ: Mapping[str, str] | None = None) -> DocumentedEnvironment:
    """Return the values of the documented variables.

    Args:
        environ: default this process's environment.

    Raises:
        SettingsError: if a value is invalid.
    """
    given = os.environ if environ is None else environ
    return DocumentedEnvironment(
        default_model=_text(given, "DEFAULT_MODEL_NAME"),
        default_score=_score(_text(given, "DEFAULT_SCORE")),
        hub_token=_text(given, "ACCESS_TOKEN"),
        api_keys=tuple(key for part in given.get("API_KEYS", "").split(",") if (key := part.strip())),
        use_api_keys=_flag(_text(given, "USE_API_KEYS")),
    )


def _text(given: Mapping[str, str], name: str) -> str | None:
    return given.get(name, "").strip() or None


def _score(text: str | None) -> float:
    if text is None:
        return DEFAULT_SCORE
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        raise SettingsError(f"DEFAULT_SCORE {text!r} is not a number within 0..1")
    return score


def _flag(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise SettingsError(f"USE_API_KEYS {text!r} is neither true nor false")
