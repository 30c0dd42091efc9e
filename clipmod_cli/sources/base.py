"""The seam `Source`, and what sources share: rules, counts of skipped files, and the path of an input."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from clipmod_cli.decode.unread import UNREAD_SKIPPED, UnreadFormat, is_media_name
from clipmod_cli.errors import ItemError, UsageError
from clipmod_cli.types import Failure, Item, Media

if TYPE_CHECKING:
    from pathspec import PathSpec


InputState: TypeAlias = Literal["unchanged", "changed", "gone"]
"""What became of an input since its record was written; gone: the file or object does not exist."""

OLDER = "older"
"""Why a file is skipped that was modified before `--newer-than`. A run may skip all files for it."""

MOST_FOLDERS, MOST_NAMES = 1_000, 100_000
"""Bounds of the search for media in skipped folders, which takes place only if nothing was judged."""


@dataclass(frozen=True)
class Rules:
    """Which files in a folder or an archive are inputs. Archives in folders must match too.

    Attributes:
        include: gitignore patterns; if any, a file must match one. Relative to the folder named.
        exclude: gitignore patterns of files and folders to skip.
        max_depth: 1 is a folder's own files; None is no limit.
        hidden: include names that begin with a dot.
        follow: follow symbolic links found in folders; a named link is always followed.
        record_unread: files of formats that are not read are inputs too, which fail.
        since_ns: files and archives that were modified before this are skipped; ns since 1970.
        null: lists are separated by NUL bytes instead of newlines.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_depth: int | None = None
    hidden: bool = False
    follow: bool = False
    null: bool = False
    record_unread: bool = True
    since_ns: int | None = None

    def is_older(self, mtime_ns: int | None) -> bool:
        """Return whether a file was certainly modified before `since_ns`.

        One of unknown time was not. A time in whole seconds or milliseconds was rounded down, as S3 does.
        """
        if self.since_ns is None or mtime_ns is None:
            return False
        precision_ns = next((ns for ns in (10**9, 10**6) if mtime_ns % ns == 0), 1)
        return mtime_ns + precision_ns <= self.since_ns

    def skip_reason(self, rel: str, *, folder: bool = False) -> str | None:
        """Return why a path, relative to the folder named, is skipped; None if it is not."""
        if not self.hidden and any(part.startswith(".") for part in rel.split("/")):
            return "hidden"
        if self.excludes(rel, folder=folder):
            return "excluded"
        if self.max_depth is not None and rel.count("/") + folder >= self.max_depth:
            return "depth"
        return None

    def excludes(self, path: str, *, folder: bool = False) -> bool:
        """Return whether the patterns exclude a path, which is relative to the folder named."""
        path = path.replace("\n", " ")  # pathspec does not match newlines in a name
        if self._excluded is not None and self._excluded.match_file(path + "/" * folder):
            return True
        return not folder and self._included is not None and not self._included.match_file(path)

    def skips_unread(self, unread: UnreadFormat) -> str | None:
        """Return why a file of a format that is not read gets no record; None if it gets one."""
        return unread.counted_as or (None if self.record_unread else UNREAD_SKIPPED)

    @cached_property
    def _included(self) -> PathSpec[Any] | None:
        return _compile(self.include)

    @cached_property
    def _excluded(self) -> PathSpec[Any] | None:
        return _compile(self.exclude)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInput:
    """An input as its source lists it; an archive is one.

    Attributes:
        source: its whole name.
        folder: the folder that was named and in which it was found; None if it was named itself.
        size: in bytes; None where it was not looked at.
        mtime_ns: when it was last changed, nanoseconds since 1970.
        version: of an object in a store, identifies its very bytes.
    """

    source: str
    folder: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    version: str | None = None

    @property
    def rel(self) -> str | None:
        """The name relative to the folder, with `/`; None if it was named itself."""
        if self.folder is None:
            return None
        return self.source[len(self.folder) :].replace(os.sep, "/").lstrip("/")


class Source(Protocol):
    """Where the inputs of one scheme come from; opened once a run, used by one thread."""

    def expand(self, name: str, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
        """Yield one Item for each input that a name stands for, lazily, in a fixed order.

        An input that cannot be read is a Failure in its place; no error of an input is raised. The caller
        numbers the items.

        Args:
            name: as the user gave it, scheme included.
            rules: which of the files in a folder are inputs; a file that was named always is.
            skipped: counts the files that are no inputs, and takes the folders that were listed.
        """

    def list(self, name: str, rules: Rules, skipped: Skipped) -> Iterator[SourceInput]:
        """Yield the inputs that a name stands for, as `expand`, but an archive as one; reads heads at most.

        What cannot be listed is one input, which fails when it is opened.
        """

    def open(self, listed: SourceInput, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
        """Yield the Item of a listed input or the members of its archive, as `expand`; at least one.

        Only an archive found in a folder that holds no input yields none. What is no input any more fails.
        """

    def state_of(self, record: Mapping[str, Any], name: str, *, verify: bool) -> InputState:
        """Return what became of the input of an earlier run's record; unchanged if that cannot be found out.

        Args:
            record: with `member`, `bytes`, `mtime_ns` and `sha256`.
            name: the record's source; a local path is absolute.
            verify: compare the SHA-256 too.
        """


def same_file(record: Mapping[str, Any], size: int, mtime_ns: int | None) -> bool:
    """Return whether a record's input has this size and time; for a member only its archive's time counts."""
    if record["member"] is not None:
        return bool(mtime_ns == record["mtime_ns"])
    return bool((size, mtime_ns) == (record["bytes"], record["mtime_ns"]))


@dataclass(slots=True)
class Skipped:
    """How many files were skipped, by reason, and which folders were listed.

    Attributes:
        media: a skipped file is a picture, film or archive by name.
        folders: the first folders that were not entered.
        listed: the number of inputs in each named folder that was listed to its end.
        unlisted: named folders of which a part could not be listed.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    media: bool = False
    folders: list[str] = field(default_factory=list)
    listed: dict[str, int] = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)

    def add(self, reason: str, name: str, *, folder: bool = False) -> None:
        """Count a file or folder that the rules exclude; the name of a folder is its path."""
        self.reasons[reason] += 1
        if folder and len(self.folders) < MOST_FOLDERS:
            self.folders.append(name)
        self.media = self.media or (not folder and is_media_name(name))

    def has_media(self) -> bool:
        """Return whether a skipped file is media by its name; searches the first skipped folders."""
        below = (name for folder in self.folders for _, _, names in os.walk(folder) for name in names)
        self.media = self.media or any(map(is_media_name, itertools.islice(below, MOST_NAMES)))
        return self.media

    def add_unread(self, reason: str) -> None:
        """Count a file of a format that is not read."""
        self.reasons[reason] += 1
        self.media = self.media or reason == UNREAD_SKIPPED


def failure(item: Item, error: ItemError, media: Media | None = None) -> Failure:
    """Return the Failure of an item that could not be read."""
    return Failure(
        item=item,
        stage="source",
        code=error.code,
        message=error.message,
        media=media,
        http_status=error.status,
    )


def _compile(patterns: tuple[str, ...]) -> PathSpec[Any] | None:
    if not patterns:
        return None
    import pathspec

    try:
        return pathspec.PathSpec.from_lines("gitignore", patterns)
    except ValueError as e:
        raise UsageError(f"invalid pattern in --include or --exclude: {e}") from e


@dataclass(frozen=True, slots=True)
class InputPath:
    """A path that is an input.

    Attributes:
        rel: the path relative to the folder in which it was found; None if it was named itself.
        file: the file with its bytes, and `mtime_ns` its time, if that is not `path` (an object in a store).
    """

    path: str
    rel: str | None = None
    file: str | None = None
    mtime_ns: int | None = None
