"""A path → its Item, or the Items and Failures of its archive, read as a stream; nothing is written to disk.

- A member is an input under the same rule as a file in a folder; its name is text, never a path. One whose
  content cannot be read (encrypted, damaged) is a Failure.
- A bad member costs itself, a broken archive what follows the break, an exceeded budget all the rest: one
  Failure reports it, after everything before. It has the archive's size and modification time, so that a
  resumed run recognises the archive.
- Memory holds one member and the one before it, and the archives around nested ones.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeAlias

from clipmod_cli.decode.formats import Format, format_by_extension
from clipmod_cli.decode.unread import UNREAD_SKIPPED, UnreadFormat, identify, is_media_name
from clipmod_cli.errors import ItemError
from clipmod_cli.sources.archives.limits import ArchiveBudget, ArchiveLimits, BudgetExceeded
from clipmod_cli.sources.archives.walk import (
    ArchiveMember,
    ArchiveWalk,
    Container,
    lost,
)
from clipmod_cli.sources.base import InputPath, SourceInput, failure
from clipmod_cli.types import Failure, Item, Media

if TYPE_CHECKING:
    from clipmod_cli.sources.base import Rules, Skipped


SkipReason: TypeAlias = Callable[[str], str | None]

_OPEN_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
)
"""Without O_NONBLOCK opening a FIFO blocks until there is a writer. Windows lacks the first two."""


def look_inside(place: InputPath, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
    """Yield the Item of a path, or the members of its archive.

    Yields nothing for a file found in a folder that has neither the content nor the name of an input.
    """
    opened = open_input(place.file or place.path, name=PurePath(place.path).name)
    named = place.rel is None
    if archive := opened.archive:
        before = "" if place.rel is None else place.rel + "/"  # for patterns an archive is a folder
        mtime_ns = archive.mtime_ns if place.file is None else place.mtime_ns
        whole = Item(source=place.path, index=0, mtime_ns=mtime_ns)
        reason = partial(_skip_reason, before, rules, skipped)
        record_unread = rules.record_unread
        yield from read_members(archive, whole, reason, skipped, named=named, record_unread=record_unread)
    elif place.file is not None:
        error = ItemError("read_error", "the archive changed while it was read")
        yield failure(Item(source=place.path, index=0), error)
    elif unread := opened.unread:
        if not named and (skip := rules.skips_unread(unread)):
            skipped.add_unread(skip)
        else:
            media = Media(started=time.perf_counter(), bytes=opened.size, mtime_ns=opened.mtime_ns)
            yield failure(Item(source=place.path, index=0, mtime_ns=opened.mtime_ns), unread.error(), media)
    elif named or not opened.was_read or opened.format or format_by_extension(place.path):
        yield Item(source=place.path, index=0)  # an unreadable file may be an input
    else:
        skipped.reasons["other type"] += 1


def list_input(place: InputPath, folder: str | None, rules: Rules, skipped: Skipped) -> SourceInput | None:
    """Return a path as an input, of an archive the whole; None where `look_inside` yields nothing."""
    opened = open_input(place.path)
    named = place.rel is None
    if opened.archive:
        opened.archive.file.close()
    elif opened.unread:
        if not named and (skip := rules.skips_unread(opened.unread)):
            skipped.add_unread(skip)
            return None
    elif not (named or not opened.was_read or opened.format or format_by_extension(place.path)):
        skipped.reasons["other type"] += 1
        return None
    try:
        status = os.stat(place.path)  # noqa: PTH116 — the name may hold any byte
    except (OSError, ValueError):
        return SourceInput(source=place.path, folder=folder)
    return SourceInput(source=place.path, folder=folder, size=status.st_size, mtime_ns=status.st_mtime_ns)


def read_members(
    archive: Container,
    whole: Item,
    skip_reason: SkipReason,
    skipped: Skipped,
    *,
    named: bool,
    record_unread: bool = True,
) -> Generator[Item | Failure, None, None]:
    """Yield the Items and Failures of an archive's members, and close it.

    Args:
        archive: read to its end.
        whole: the archive's own Item, from which the fields are copied, the index too.
        skip_reason: returns why the member of a name is skipped, or None.
        skipped: counts the skipped members by reason.
        named: an archive without inputs is a Failure, not an `empty archive`.
        record_unread: members of formats that are not read are Failures; else they are counted.
    """
    count = 0
    reasons = Counter[str]()
    try:
        members = read_archive(archive, skip_reason, reasons, record_unread=record_unread)
        for count, found in enumerate(members, 1):  # noqa: B007
            item = replace(whole, member=found.name)
            if found.error is None:
                yield replace(item, data=found.data)
            else:
                yield _lost(item, archive, found.error)
        if not count and named:
            why = ", ".join(f"{reason} {n}" for reason, n in reasons.most_common()) or "it is empty"
            message = f"the archive holds no picture, video or archive to be judged ({why})"
            yield _lost(whole, archive, ItemError("archive_error", message))
        elif not count:
            reasons["empty archive"] += 1
    finally:
        archive.file.close()
        skipped.reasons.update(reasons)
        skipped.media = skipped.media or UNREAD_SKIPPED in reasons


def _lost(item: Item, archive: Container, error: ItemError) -> Failure:
    size = archive.size if item.member is None else None
    return failure(item, error, Media(started=time.perf_counter(), bytes=size, mtime_ns=item.mtime_ns))


def _skip_reason(before: str, rules: Rules, skipped: Skipped, name: str) -> str | None:
    if not rules.excludes(before + name):
        return None
    skipped.media = skipped.media or is_media_name(name)
    return "excluded"


def read_archive(
    archive: Container,
    skip_reason: SkipReason = lambda _: None,
    skipped: Counter[str] | None = None,
    limits: ArchiveLimits | None = None,
    *,
    record_unread: bool = True,
) -> Iterator[ArchiveMember]:
    """Yield the members that are inputs, in the archive's own order; lazy, never raises.

    An error that ends the archive early comes last, as a member without a name.
    """
    budget = ArchiveBudget(limits or ArchiveLimits())
    counts = Counter[str]() if skipped is None else skipped
    found = ArchiveWalk(budget, skip_reason, counts, record_unread).inside(archive)
    while True:
        with budget.running():
            member = _next(found)
        if member is None:
            return
        yield member


@dataclass(frozen=True, slots=True)
class OpenedInput:
    """What opening an input showed: the archive, to be closed, if it is one, and its format.

    `was_read` is False for what is missing, unreadable or not a regular file. `unread` is its format if that
    is not read; then `size` and `mtime_ns` are the file's.
    """

    archive: Container | None = None
    format: Format | None = None
    was_read: bool = False
    unread: UnreadFormat | None = None
    size: int | None = None
    mtime_ns: int | None = None


def open_input(path: str, *, name: str | None = None) -> OpenedInput:
    """Open the file once, read its first bytes, and keep it open if it is an archive. Never blocks.

    `name` is the archive's name for users, if that is not the file's.
    """
    try:
        file = os.fdopen(os.open(path, _OPEN_FLAGS), "rb", buffering=0)
    except (OSError, ValueError):
        return OpenedInput()
    archive = None
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return OpenedInput()
        name = PurePath(path).name if name is None else name
        known, unread = identify(lambda at, count: os.pread(file.fileno(), count, at), status.st_size, name)
        if known is None or known.kind != "archive":
            return OpenedInput(
                format=known,
                was_read=True,
                unread=unread,
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
            )
        archive = Container(file, status.st_size, known.name, name, mtime_ns=status.st_mtime_ns)
        return OpenedInput(archive, known, was_read=True)
    except OSError:
        return OpenedInput()
    finally:
        if archive is None:
            file.close()


def _next(found: Iterator[ArchiveMember]) -> ArchiveMember | None:
    """Return the next member, None at the end; an error of the whole archive becomes the last one."""
    try:
        return next(found, None)
    except ItemError as error:
        return lost(None, error.code, f"the archive cannot be read on: {error.message}")
    except BudgetExceeded as error:
        return lost(None, "archive_limit", f"the archive was left, its rest is not judged: {error}")
    except OSError as error:
        return lost(None, "read_error", f"the archive cannot be read on: {error.strerror or error}")
    except MemoryError:
        return lost(None, "out_of_memory", "not enough memory to read on in the archive")
    except Exception as error:  # noqa: BLE001 — a bug costs one archive, never the run
        reason = f"{type(error).__name__}: {error}"
        return lost(None, "internal_error", f"a bug in clipmod ({reason}); please report it")
