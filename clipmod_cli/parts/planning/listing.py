"""From sources to planned inputs, and from planned inputs to items."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from clipmod_cli.parts.plan import PlannedInput
from clipmod_cli.records import write_name
from clipmod_cli.runs.files import rules_of
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.base import Rules, Skipped, SourceInput
from clipmod_cli.sources.lists import read_list
from clipmod_cli.sources.registry import Sources, list_inputs
from clipmod_cli.types import Failure, Item

_USER_INFO: Final = re.compile(r"^([^:/?#]+://)[^/?#]*@")

LISTING_SETTINGS: Final = {
    "scan": (
        "files_from",
        "include",
        "exclude",
        "max_depth",
        "hidden",
        "follow",
        "newer_than",
        "unread",
        "limit",
    ),
    "urls": ("url_column", "keep_columns", "limit"),
}
"""The settings by which inputs are listed; all processes of a run have the same."""

Command = Literal["scan", "urls"]


def describe_inputs(command: Command, named: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Return what the run file says of the inputs."""
    listed = {name: getattr(settings, name) for name in LISTING_SETTINGS[command]}
    return {"sources": _as_json(tuple(named)), **{name: _as_json(value) for name, value in listed.items()}}


def _as_json(value: Any) -> Any:
    """Return a setting as JSON gives it back: names may hold bytes that are not UTF-8."""
    if isinstance(value, tuple):
        return [_as_json(one) for one in value]
    return write_name(value)[0] if isinstance(value, str) else value


def list_planned(
    command: Command, named: Sequence[str], settings: Settings, skipped: Skipped
) -> Iterator[PlannedInput]:
    """Yield the inputs of a run in their order.

    Raises:
        UsageError: a list cannot be read.
    """
    planned = _urls(named, settings, skipped) if command == "urls" else _files(named, settings, skipped)
    return itertools.islice(planned, settings.limit)


def _files(named: Sequence[str], settings: Settings, skipped: Skipped) -> Iterator[PlannedInput]:
    listed = read_list(settings.files_from, null=settings.null) if settings.files_from else iter(())
    names = itertools.chain(named, listed)
    for index, one in enumerate(list_inputs(names, rules_of(settings), skipped)):
        yield PlannedInput(index=index, listed=one)


def _urls(named: Sequence[str], settings: Settings, skipped: Skipped) -> Iterator[PlannedInput]:
    from clipmod_cli.runs.urls import list_urls

    for item in list_urls(named, settings, skipped):
        yield PlannedInput(
            index=item.index,
            # a plan holds no secret; a URL with a user name is refused with or without it
            listed=SourceInput(source=_USER_INFO.sub(r"\1***@", item.source)),
            row=item.row,
            columns=item.columns,
            group=_host_of(item.source),
        )


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def open_files(
    inputs: Iterable[PlannedInput], sources: Sources, rules: Rules, skipped: Skipped
) -> Iterator[Item | Failure]:
    """Yield the items of planned files and objects, with the index of the planned input."""
    for planned in inputs:
        for one in sources.find(planned.listed.source).open(planned.listed, rules, skipped):
            if isinstance(one, Failure):
                yield replace(one, item=replace(one.item, index=planned.index))
            else:
                yield replace(one, index=planned.index)


def url_items(inputs: Iterable[PlannedInput]) -> Iterator[Item]:
    """Yield the items of planned URLs, without bytes."""
    for one in inputs:
        yield Item(source=one.listed.source, index=one.index, row=one.row, columns=one.columns)
