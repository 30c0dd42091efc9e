"""A path → its Item, or the Items and Failures of its archive.

An archive without inputs is counted as `empty archive` if it was found in a folder, and a Failure if it was
named. A Failure of the archive itself has the archive's size and modification time, so that a resumed run
recognises it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from clipmod_cli.decode.formats import format_by_extension
from clipmod_cli.errors import ErrorCode
from clipmod_cli.sources.archives.opening import OpenedInput, open_input
from clipmod_cli.sources.archives.walk import ArchiveMember, Found, MemberFilter
from clipmod_cli.sources.base import InputPath
from clipmod_cli.types import Failure, Item, Media

if TYPE_CHECKING:
    from clipmod_cli.sources.base import Rules, Skipped

MAC_FOLDER = "__MACOSX"
"""Where macOS stores metadata of the files beside it, under the same names."""


def look_inside(place: InputPath, rules: Rules, skipped: Skipped, first: int) -> Iterator[Item | Failure]:
    """Yield the Item of a path, or the members of its archive; indices count from `first`.

    Yields nothing for a file found in a folder that has neither the content nor the name of an input.
    """
    opened = open_input(place.file or place.path, name=PurePath(place.path).name)
    archive = opened.archive
    if archive is None:
        if _is_other_type(place, opened):
            skipped.reasons["other type"] += 1
        else:
            yield _no_archive(place, first)
        return
    before = "" if place.rel is None else place.rel + "/"
    wishes = MemberFilter(lambda name: _passed_over(before + name, name, rules))
    mtime_ns = archive.mtime_ns if place.file is None else place.mtime_ns
    whole = Item(source=place.path, index=first, mtime_ns=mtime_ns)
    count = 0
    try:
        for found in archive.members(wishes):
            yield result_of(found, replace(whole, index=first + count), archive.size)
            count += 1
        if not count and place.rel is None:
            yield nothing_inside(whole, archive.size, wishes)
        elif not count:
            wishes.skipped["empty archive"] += 1
    finally:
        archive.close()
        skipped.reasons.update(wishes.skipped)


def _is_other_type(place: InputPath, opened: OpenedInput) -> bool:
    """Return whether a file that was found, not named, is certainly no input: an unreadable one may be."""
    found = place.rel is not None and place.file is None
    return found and opened.was_read and opened.format is None and format_by_extension(place.path) is None


def _no_archive(place: InputPath, index: int) -> Item | Failure:
    item = Item(source=place.path, index=index)
    if place.file is None:
        return item
    message = "the archive changed while it was read"
    return Failure(item=item, stage="source", code="read_error", message=message)


def result_of(found: Found, whole: Item, size: int) -> Item | Failure:
    """Return the Item or Failure of what was found in an archive.

    Args:
        found: the member, or what could not be read.
        whole: the archive's own Item, from which the fields are copied.
        size: of the archive, in bytes.
    """
    if isinstance(found, ArchiveMember):
        return replace(whole, member=found.name, data=found.data)
    return _failure(replace(whole, member=found.name), size, found.code, found.message)


def nothing_inside(whole: Item, size: int, wishes: MemberFilter) -> Failure:
    """Return the Failure of a named archive that holds no input."""
    counts = ", ".join(f"{reason} {count}" for reason, count in wishes.skipped.most_common()) or "it is empty"
    message = f"the archive holds no picture, video or archive to be judged ({counts})"
    return _failure(whole, size, "archive_error", message)


def _passed_over(path: str, name: str, rules: Rules) -> str | None:
    """Return why a member is skipped, None if it is not; for patterns an archive is a folder."""
    if not rules.hidden and is_hidden(name):
        return "hidden"
    shown = path.replace("\n", " ")  # as for files: pathspec takes no newline for a part of a name
    if rules.excluded is not None and rules.excluded.match_file(shown):
        return "excluded"
    if rules.included is not None and not rules.included.match_file(shown):
        return "excluded"
    return None


def is_hidden(name: str) -> bool:
    """Return whether a member is hidden: below a dot name or in `__MACOSX`."""
    return any(
        part == MAC_FOLDER or (part.startswith(".") and part not in (".", "..")) for part in name.split("/")
    )


def _failure(item: Item, size: int, code: ErrorCode, message: str) -> Failure:
    media = Media(
        started=time.perf_counter(),
        bytes=size if item.member is None else None,
        mtime_ns=item.mtime_ns,
    )
    return Failure(item=item, stage="source", code=code, message=message, media=media)
