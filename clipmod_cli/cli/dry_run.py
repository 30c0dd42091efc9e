"""`--dry-run`: counts inputs by format and size. Reads archives, and only the first bytes of other files."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import typer

from clipmod_cli.cli.terminal.stdout import say
from clipmod_cli.decode.formats import HEAD_BYTES, sniff
from clipmod_cli.decode.reading.items import open_regular
from clipmod_cli.errors import ItemError
from clipmod_cli.models.backend import human_size
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.base import Skipped
from clipmod_cli.sources.stores.base import StoredItem
from clipmod_cli.sources.web.addresses import check_url
from clipmod_cli.types import Failure, Item


def count_inputs(items: Callable[[Skipped], Iterator[Item | Failure]], settings: Settings) -> int:
    """Print the number of inputs, their formats and bytes, and what is skipped; return 0."""
    skipped = Skipped()
    formats: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for item in itertools.islice(items(skipped), settings.limit):
        name, size = _format_and_size(item)
        formats[name] += 1
        sizes[name] += size
    facts = {
        "inputs": formats.total(),
        "bytes": sizes.total(),
        "formats": {name: {"inputs": n, "bytes": sizes[name]} for name, n in formats.most_common()},
        "skipped": dict(skipped.reasons.most_common()),
    }
    lines = [f"{name:<20} {n:>9} inputs  {human_size(sizes[name]):>9}" for name, n in formats.most_common()]
    lines.append(f"{'total':<20} {formats.total():>9} inputs  {human_size(sizes.total()):>9}")
    if _print_facts(facts, lines, settings) and skipped.reasons:
        say(f"skipped: {', '.join(f'{name} {count}' for name, count in skipped.reasons.most_common())}")
    return 0


def count_urls(items: Callable[[Skipped], Iterator[Item]], settings: Settings) -> int:
    """Print the number of URLs without downloading any; return 0."""
    skipped, total, invalid = Skipped(), 0, 0
    for item in itertools.islice(items(skipped), settings.limit):
        total += 1
        try:
            check_url(item.source)
        except ItemError:
            invalid += 1
    facts = {"inputs": total, "invalid_urls": invalid, "skipped": dict(skipped.reasons.most_common())}
    _print_facts(facts, [f"{total} URLs, {invalid} of them invalid"], settings)
    return 0


def _print_facts(facts: Mapping[str, Any], lines: Sequence[str], settings: Settings) -> bool:
    """Print the lines on a terminal, else the facts as JSON; return whether it was the lines."""
    as_text = sys.stdout.isatty() and not settings.json
    typer.echo("\n".join(lines) if as_text else json.dumps(facts))
    return as_text


def _format_and_size(item: Item | Failure) -> tuple[str, int]:
    """Return the format by content, or why it is unknown, and the size in bytes."""
    if isinstance(item, Failure):
        if item.code != "unsupported_format":
            return "cannot be read", 0
        return "not supported", (item.media and item.media.bytes) or 0
    if isinstance(item, StoredItem):  # no download: it may cost money
        return f"{PurePosixPath(item.entry.key).suffix or 'no ending'} by name", item.entry.size
    if item.data is not None:
        return _name(item.data), len(item.data)
    try:
        with open_regular(item.source) as (descriptor, status):
            return _name(os.read(descriptor, HEAD_BYTES)), status.st_size
    except ItemError:
        return "cannot be read", 0


def _name(head: bytes) -> str:
    known = sniff(head)
    return known.name if known is not None else "unknown"
