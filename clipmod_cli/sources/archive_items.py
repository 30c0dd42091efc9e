"""A path → its Item, or the Items and Failures of the archive that is there.

An archive that yields nothing is counted as `empty archive` if it was found in a folder; one that
was named is an input whatever it is, so it is a Failure then. A failure of the archive itself has
the archive's size and time, so that a resumed run knows it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipmod_cli.errors import ErrorCode
from clipmod_cli.sources.archive_walk import Found, Member, Wishes
from clipmod_cli.sources.archives import Archive, open_archive
from clipmod_cli.types import Failure, Item, Media

if TYPE_CHECKING:
    from clipmod_cli.sources.local import Rules, Skipped

MAC_FOLDER = "__MACOSX"
"""Where macOS puts what its file system knows of the files beside it; the names look like theirs."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path that is an input.

    Attributes:
        rel: the path relative to the folder in which it was found; None if it was named itself.
    """

    path: str
    rel: str | None = None


def look_inside(place: Place, rules: Rules, skipped: Skipped, first: int) -> Iterator[Item | Failure]:
    """Yield the Item of a path, or what its archive holds, if it is one; indices count from `first`."""
    archive = open_archive(place.path)
    if archive is None:
        yield Item(source=place.path, index=first)
        return
    before = "" if place.rel is None else place.rel + "/"
    wishes = Wishes(lambda name: _passed_over(before + name, name, rules))
    count = 0
    try:
        for found in archive.members(wishes):
            yield _result(found, place.path, archive, first + count)
            count += 1
        if not count and place.rel is None:
            yield _nothing(Item(source=place.path, index=first), archive, wishes)
        elif not count:
            wishes.skipped["empty archive"] += 1
    finally:
        archive.close()
        skipped.reasons.update(wishes.skipped)


def _nothing(item: Item, archive: Archive, wishes: Wishes) -> Failure:
    """Return the Failure of an archive that was named, but holds no input."""
    counts = ", ".join(f"{reason} {count}" for reason, count in wishes.skipped.most_common()) or "it is empty"
    message = f"the archive holds no picture, video or archive to be judged ({counts})"
    return _failure(item, archive, "archive_error", message)


def count_if_cheap(items: Iterable[Item | Failure]) -> int | None:
    """Return how many items there are; None if archives are among them, which would be unpacked for it."""
    count = 0
    for given in items:
        item = given.item if isinstance(given, Failure) else given
        if item.member is not None:
            return None
        count += 1
    return count


def _passed_over(path: str, name: str, rules: Rules) -> str | None:
    """Return why a member is not looked at; patterns take an archive for a folder."""
    if not rules.hidden and any(_is_hidden(part) for part in name.split("/")):
        return "hidden"
    shown = path.replace("\n", " ")  # as for files: pathspec takes no newline for a part of a name
    if rules.excluded is not None and rules.excluded.match_file(shown):
        return "excluded"
    if rules.included is not None and not rules.included.match_file(shown):
        return "excluded"
    return None


def _is_hidden(part: str) -> bool:
    return part == MAC_FOLDER or (part.startswith(".") and part not in (".", ".."))


def _result(found: Found, path: str, archive: Archive, index: int) -> Item | Failure:
    if isinstance(found, Member):
        return Item(source=path, index=index, member=found.name, data=found.data, mtime_ns=archive.mtime_ns)
    item = Item(source=path, index=index, member=found.name, mtime_ns=archive.mtime_ns)
    return _failure(item, archive, found.code, found.message)


def _failure(item: Item, archive: Archive, code: ErrorCode, message: str) -> Failure:
    media = Media(
        started=time.perf_counter(),
        bytes=archive.size if item.member is None else None,
        mtime_ns=archive.mtime_ns,
    )
    return Failure(item=item, stage="source", code=code, message=message, media=media)
