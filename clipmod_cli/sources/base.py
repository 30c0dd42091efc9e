"""What every source is told and tells: which files are looked at, what was skipped, and where an input is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from clipmod_cli.errors import UsageError

if TYPE_CHECKING:
    from pathspec import PathSpec


@dataclass(frozen=True)
class Rules:
    """Which of the files in a folder or an archive are looked at. Archives in folders must match too.

    Attributes:
        include: gitignore patterns; if any, a file must match one. Relative to the folder named.
        exclude: gitignore patterns of files and folders that are passed over.
        max_depth: 1 is a folder's own files; None is no limit.
        hidden: names that begin with a dot too.
        follow: links that are found; a named link is always followed.
        null: lists are separated by NUL bytes, not by newlines.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_depth: int | None = None
    hidden: bool = False
    follow: bool = False
    null: bool = False

    @cached_property
    def included(self) -> PathSpec[Any] | None:
        """The compiled `include`, or None if everything is."""
        return _compile(self.include)

    @cached_property
    def excluded(self) -> PathSpec[Any] | None:
        """The compiled `exclude`, or None if nothing is."""
        return _compile(self.exclude)


@dataclass(slots=True)
class Skipped:
    """How many files were no input, by reason."""

    reasons: Counter[str] = field(default_factory=Counter)


def _compile(patterns: tuple[str, ...]) -> PathSpec[Any] | None:
    if not patterns:
        return None
    import pathspec

    try:
        return pathspec.PathSpec.from_lines("gitignore", patterns)
    except ValueError as e:
        raise UsageError(f"a pattern of --include or --exclude cannot be understood: {e}") from e


@dataclass(frozen=True, slots=True)
class InputPath:
    """A path that is an input.

    Attributes:
        rel: the path relative to the folder in which it was found; None if it was named itself.
        file: where its bytes are, if that is not `path`: then `path` is a name that no file has, and
            `mtime_ns` what is told of its change.
    """

    path: str
    rel: str | None = None
    file: str | None = None
    mtime_ns: int | None = None
