"""`--dry-run`: counts inputs by format and size. Reads archives, and only the first bytes of other files."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from clipmod_cli.cli.terminal.stdout import say
from clipmod_cli.decode.formats import HEAD_BYTES, sniff
from clipmod_cli.decode.reading import open_regular
from clipmod_cli.errors import ItemError
from clipmod_cli.models.backend import human_size
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.base import Skipped
from clipmod_cli.sources.stores.base import StoredItem
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
    if settings.json or not sys.stdout.isatty():
        print(json.dumps(facts))  # noqa: T201
        return 0
    for name, count in formats.most_common():
        print(f"{name:<20} {count:>9} inputs  {human_size(sizes[name]):>9}")  # noqa: T201
    print(f"{'total':<20} {formats.total():>9} inputs  {human_size(sizes.total()):>9}")  # noqa: T201
    if skipped.reasons:
        say(f"skipped: {', '.join(f'{name} {count}' for name, count in skipped.reasons.most_common())}")
    return 0


def _format_and_size(item: Item | Failure) -> tuple[str, int]:
    """Return the format by content, or why it is unknown, and the size in bytes."""
    if isinstance(item, Failure):
        return "cannot be read", 0
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
