"""Counts inputs by format and size. Reads archives, and only the first bytes of other files."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import typer

from clipmod_cli.bench.sampling import InputSample
from clipmod_cli.cli.dry_run.lines import lines_of, no_estimate_line
from clipmod_cli.cli.dry_run.plan import RunPlan
from clipmod_cli.cli.run import Inputs
from clipmod_cli.cli.terminal.stdout import say
from clipmod_cli.decode.formats import HEAD_BYTES, sniff
from clipmod_cli.decode.reading.items import open_regular
from clipmod_cli.errors import ItemError
from clipmod_cli.models.backend import human_size
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.sources.base import Skipped
from clipmod_cli.sources.stores.base import StoredItem
from clipmod_cli.sources.web.addresses import check_url
from clipmod_cli.types import Failure, Item


class Counted(NamedTuple):
    """What is known of an input without decoding it; `size` is in bytes."""

    format: str
    size: int
    is_film: bool = False
    can_be_read: bool = True


def count_inputs(resolved: Resolved, inputs: Inputs) -> int:
    """Print the number of inputs, their formats and bytes, what is skipped, and the time; return 0."""
    settings, start_s = resolved.settings, time.process_time()
    plan = RunPlan.of(resolved, inputs, start_s=start_s)
    skipped, sample = Skipped(), InputSample()
    formats: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    done = 0
    for item in itertools.islice(inputs.items(skipped), settings.limit):
        counted = _look_at(item)
        formats[counted.format] += 1
        sizes[counted.format] += counted.size
        if plan.done.match(item):
            done += 1
        elif isinstance(item, StoredItem):
            plan.stored += 1
        elif isinstance(item, Item) and counted.can_be_read:
            sample.add(item, counted.format, counted.size, is_film=counted.is_film)
    plan.estimate_from(sample)
    facts = {
        "inputs": formats.total(),
        "bytes": sizes.total(),
        "formats": {name: {"inputs": n, "bytes": sizes[name]} for name, n in formats.most_common()},
        "skipped": dict(skipped.reasons.most_common()),
        **plan.facts(inputs=formats.total(), done=done),
    }
    lines = [f"{name:<20} {n:>9} inputs  {human_size(sizes[name]):>9}" for name, n in formats.most_common()]
    lines.append(f"{'total':<20} {formats.total():>9} inputs  {human_size(sizes.total()):>9}")
    _print(facts, [*lines, *lines_of(plan, done=done, inputs=formats.total())], settings)
    if _is_text(settings) and skipped.reasons:
        say(f"skipped: {', '.join(f'{name} {count}' for name, count in skipped.reasons.most_common())}")
    return 0


def count_urls(resolved: Resolved, inputs: Inputs) -> int:
    """Print the number of URLs without downloading any, and what is known of the time; return 0."""
    settings = resolved.settings
    plan = RunPlan.of(resolved, inputs, start_s=time.process_time())
    skipped, total, invalid, done = Skipped(), 0, 0, 0
    for item in itertools.islice(inputs.items(skipped), settings.limit):
        total += 1
        try:
            check_url(item.source if isinstance(item, Item) else item.item.source)
        except ItemError:
            invalid += 1
        else:
            done += not plan.done.has_members_to_retry(item) and plan.done.match(item)
    plan.bound_from(total - invalid - done)
    facts = {
        "inputs": total,
        "invalid_urls": invalid,
        "skipped": dict(skipped.reasons.most_common()),
        **plan.facts(inputs=total - invalid, done=done),
    }
    lines = [f"{total} URLs, {invalid} of them invalid", *lines_of(plan, done=done, inputs=total - invalid)]
    _print(facts, lines, settings)
    return 0


def _is_text(settings: Settings) -> bool:
    return sys.stdout.isatty() and not settings.json


def _print(facts: Mapping[str, Any], lines: Sequence[str], settings: Settings) -> None:
    """Print the lines on a terminal, else the facts as JSON."""
    typer.echo("\n".join(lines) if _is_text(settings) else json.dumps(facts))
    if not _is_text(settings) and not settings.quiet and facts["no_estimate"]:
        say(f"clipmod: {no_estimate_line(facts['no_estimate'])}")


def _look_at(item: Item | Failure) -> Counted:
    """Return the format by content, or why it is unknown, and the size."""
    if isinstance(item, Failure):
        if item.code != "unsupported_format":
            return Counted("cannot be read", 0, can_be_read=False)
        return Counted("not supported", (item.media and item.media.bytes) or 0, can_be_read=False)
    if isinstance(item, StoredItem):  # no download: it may cost money
        return Counted(f"{PurePosixPath(item.entry.key).suffix or 'no ending'} by name", item.entry.size)
    if item.data is not None:
        return _count(item.data, len(item.data))
    try:
        with open_regular(item.spilled or item.source) as (descriptor, status):
            return _count(os.read(descriptor, HEAD_BYTES), status.st_size)
    except ItemError:
        return Counted("cannot be read", 0, can_be_read=False)


def _count(head: bytes, size: int) -> Counted:
    known = sniff(head)
    if known is None:
        return Counted("unknown", size)
    return Counted(known.name, size, is_film=known.kind == "video")
