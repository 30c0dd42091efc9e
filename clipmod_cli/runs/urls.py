"""From settings to the URLs of a run and their downloads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Final

from clipmod_cli.errors import SettingsError
from clipmod_cli.runs.originals import Originals
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.base import Skipped
from clipmod_cli.sources.lists import read_urls
from clipmod_cli.sources.web.addresses import (
    VIDEO_S,
    WEB_PORTS,
    AddressRules,
    FetchRules,
    allowed_hosts,
)
from clipmod_cli.sources.web.downloads import DownloadPacing, Downloads, unpack
from clipmod_cli.sources.web.responses import ByteCounter
from clipmod_cli.types import Failure, Item

_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x1f\x7f]*)")
_RESERVED: Final = frozenset(
    {"host", "accept-encoding", "content-length", "transfer-encoding", "connection", "range", "upgrade", "te"}
)
"""Headers that clipmod sets itself."""


class UrlDownloads:
    """The downloads of a run; close it at its end.

    Attributes:
        traffic: counts the downloaded bytes.
        abilities: what lets this run read a URL that another may not.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the settings.

        Raises:
            SettingsError: a header, a port or a host is written wrongly.
        """
        self._settings = settings
        self._rules = _rules(settings)
        self.traffic = ByteCounter()
        self.abilities = frozenset(_abilities(self._rules))
        self._originals = Originals(settings.save_to) if settings.save_to is not None else None
        self._open = ExitStack()

    def fetch(self, items: Iterator[Item | Failure], skipped: Skipped) -> Iterator[Item | Failure]:
        """Yield the items with their bytes as they complete, archives as their members."""
        settings = self._settings
        pacing = DownloadPacing(
            concurrency=settings.concurrency, per_host=settings.per_host, retries=settings.retries
        )
        downloads = self._open.enter_context(
            closing(Downloads(items, self._rules, pacing, traffic=self.traffic))
        )
        found = unpack(downloads, skipped, record_unread=settings.unread == "record")
        return found if self._originals is None else self._originals.save_all(found)

    def close(self) -> None:
        """End what is under way."""
        self._open.close()


def list_urls(named: Sequence[str], settings: Settings, skipped: Skipped) -> Iterator[Item]:
    """Yield the URLs of lists as items without bytes.

    Raises:
        UsageError: a list cannot be read, or lacks a column.
    """
    keep = settings.keep_columns
    found = read_urls(named, settings.url_column, null=settings.null, keep=keep, skipped=skipped)
    for one in found:
        yield Item(source=one.url, index=one.index, row=one.row, columns=one.columns)


def _rules(settings: Settings) -> FetchRules:
    return FetchRules(
        access=AddressRules(
            private=settings.allow_private,
            ports=WEB_PORTS | set(_ports(settings.allow_ports)),
            hosts=allowed_hosts(settings.allow_host),
        ),
        headers=tuple(_headers(settings.header)),
        total_s=settings.timeout,
        video_s=max(VIDEO_S, settings.timeout),
        archives=True,
    )


def _abilities(rules: FetchRules) -> Iterator[str]:
    """Yield what lets this run read a URL that another may not; no values of headers, they may be secrets."""
    if rules.access.private:
        yield "private"
    yield from (f"port:{port}" for port in rules.access.ports)
    yield from (f"host:{host}:{port}" for host, port in rules.access.hosts)
    yield from (f"header:{name.lower()}" for name, _ in rules.headers)


def _ports(text: str | None) -> Iterator[int]:
    for part in (text or "").split(","):
        word = part.strip()
        if not word:
            continue
        if not (word.isascii() and word.isdigit() and 0 < int(word) < 65536):
            raise SettingsError(f"--allow-ports must be a list of ports, as 8080,8443, not {text!r}")
        yield int(word)


def _headers(given: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for text in given:
        parts = _HEADER.fullmatch(text.strip())
        if parts is None:
            # its value may be a secret
            raise SettingsError("--header must be 'Name: value' on one line")
        if parts[1].lower() in _RESERVED:
            raise SettingsError(f"--header cannot set {parts[1]}")
        yield parts[1], parts[2].strip()
