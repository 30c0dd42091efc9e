"""`clipmod urls`: downloads and judges the URLs of lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from clipmod_cli.cli.options import ENVIRONMENT_NOTE, Flags, with_settings
from clipmod_cli.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from clipmod_cli.settings.definition import Settings
    from clipmod_cli.settings.reading import Resolved
    from clipmod_cli.sources.base import Skipped
    from clipmod_cli.sources.web.addresses import FetchRules
    from clipmod_cli.types import Failure, Item

EXAMPLES = f"""
{ENVIRONMENT_NOTE}
\b
Examples:
  clipmod urls list.txt -o out.jsonl                 the same command resumes
  clipmod urls crawl.parquet --url-column image_url  .csv, .tsv, .jsonl too
  cat list.txt | clipmod urls - --save-to originals  from stdin, kept
  clipmod urls list.txt --errors-to failed.txt       the failed ones
"""

_FOR_FOLDERS = frozenset({"include", "exclude", "max_depth", "hidden", "follow", "newer_than"})
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x1f\x7f]*)")
_RESERVED = frozenset(
    {"host", "accept-encoding", "content-length", "transfer-encoding", "connection", "range", "upgrade", "te"}
)
"""Headers that clipmod sets itself."""


@with_settings(
    "judging",
    "output",
    "urls",
    "downloads",
    "sources",
    "machine",
    "cache",
    "store",
    "talk",
    without=_FOR_FOLDERS,
)
def urls(
    lists: Annotated[
        list[str] | None,
        typer.Argument(metavar="LIST", help="list of URLs: text or a table; - reads text from stdin"),
    ] = None,
    *,
    flags: Flags,
) -> None:
    """Download and judge the URLs of a list, and write one JSON line for each as they complete."""
    from clipmod_cli.cli.terminal.logs import resolve_settings
    from clipmod_cli.cli.usage.effects import check_urls
    from clipmod_cli.sources.lists import check_lists

    resolved = resolve_settings(flags, lists or [])
    settings = resolved.settings
    named = [*(lists or []), *([settings.files_from] if settings.files_from is not None else [])]
    if not named:
        raise UsageError("no list was named. Give a file of URLs, or - for a list on stdin")
    check_lists(named, settings.url_column, settings.keep_columns)
    check_urls(resolved, named)
    if settings.dry_run:
        from clipmod_cli.cli.dry_run import count_urls

        raise typer.Exit(count_urls(partial(_items, named, settings), settings))
    raise typer.Exit(_run(resolved, named))


def _run(resolved: Resolved, named: list[str]) -> int:
    from clipmod_cli.cli.run import Inputs, judge_inputs
    from clipmod_cli.output.originals import Originals
    from clipmod_cli.sources.web.downloads import DownloadPacing, Downloads, unpack
    from clipmod_cli.sources.web.responses import ByteCounter

    settings = resolved.settings
    rules = _rules(settings)
    pacing = DownloadPacing(
        concurrency=settings.concurrency, per_host=settings.per_host, retries=settings.retries
    )
    originals = Originals(settings.save_to) if settings.save_to is not None else None
    traffic = ByteCounter()
    with ExitStack() as stack:

        def fetch(items: Iterator[Item | Failure], skipped: Skipped) -> Iterator[Item | Failure]:
            downloads = stack.enter_context(closing(Downloads(items, rules, pacing, traffic=traffic)))
            found = unpack(downloads, skipped, record_unread=settings.unread == "record")
            return found if originals is None else originals.save_all(found)

        inputs = Inputs(
            items=partial(_items, named, settings),
            walk_ahead="-" not in named,
            fetch=fetch,
            received=lambda: traffic.bytes,
            are_urls=True,
            abilities=frozenset(_abilities(rules)),
        )
        return judge_inputs(resolved, inputs)


def _items(named: list[str], settings: Settings, skipped: Skipped) -> Iterator[Item]:
    from clipmod_cli.sources.lists import read_urls
    from clipmod_cli.types import Item

    keep = settings.keep_columns
    found = read_urls(named, settings.url_column, null=settings.null, keep=keep, skipped=skipped)
    for one in found:
        yield Item(source=one.url, index=one.index, row=one.row, columns=one.columns)


def _rules(settings: Settings) -> FetchRules:
    from clipmod_cli.sources.web.addresses import (
        VIDEO_S,
        WEB_PORTS,
        AddressRules,
        FetchRules,
        allowed_hosts,
    )

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
