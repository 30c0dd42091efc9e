"""Names of inputs: by which one input is recognised whatever it was called, and which names a run covers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache

from clipmod_cli.sources.registry import scheme_of

CACHED_FOLDERS = 10_000


def working_directory() -> str | None:
    """Return the working directory; None if it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109 — paths stay strings: they may hold any byte
    except OSError:
        return None


def folders_in(sources: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the local folders among the sources of a run: the name, and the path with links resolved."""
    return tuple((name, os.path.realpath(name)) for name in sources if _is_folder(name))


def _is_folder(name: str) -> bool:
    try:
        return not scheme_of(name) and os.path.isdir(name)  # noqa: PTH112
    except ValueError:  # an embedded NUL
        return False


class InputNames:
    """Resolves names, so that one input has one name."""

    def __init__(self) -> None:
        self._real_folder = lru_cache(maxsize=CACHED_FOLDERS)(_real_folder)

    def resolve(self, name: str, directory: str | None) -> str:
        """Return the name by which an input is recognised: of a local path the absolute one.

        Links in the path's folders are resolved, the file itself is not: a link is an input of its own.

        Args:
            name: as the user gave it, or as a walk found it.
            directory: the working directory in which it was given; None for a URL, which is not changed.
        """
        if directory is None or scheme_of(name):
            return name
        folder, base = os.path.split(name)
        if base in {"", ".", ".."}:
            return self._real_folder(directory, name)
        return os.path.join(self._real_folder(directory, folder), base)  # noqa: PTH118

    def scope(self, sources: Iterable[str], directory: str | None) -> Scope:
        """Return the scope of a run's sources; a link to a folder covers the folder."""
        names: set[str] = set()
        for source in sources:
            names.add(_without_slash(self.resolve(source, directory)))
            if directory is not None and not scheme_of(source):
                names.add(_without_slash(self._real_folder(directory, source)))
        return Scope(names)


def _real_folder(directory: str, folder: str) -> str:
    path = os.path.join(directory, folder)  # noqa: PTH118
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # an embedded NUL
        return path


class Scope:
    """Files and folders, by their resolved names."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def names(self, resolved: str) -> bool:
        """Return whether this very input is a source."""
        return resolved in self._names

    def covers(self, resolved: str) -> bool:
        """Return whether this input is a source or below one."""
        if resolved in self._names:
            return True
        while (end := resolved.rfind("/")) >= 0 or (end := resolved.rfind(os.sep)) >= 0:
            resolved = resolved[:end]
            if resolved in self._names:
                return True
        return False


def _without_slash(name: str) -> str:
    """Return a name without slashes at its end; of the root folder nothing is left."""
    return name.rstrip("/" if os.sep == "/" or scheme_of(name) else "/\\")
