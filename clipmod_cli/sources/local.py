"""Local files and folders → Items, in a defined order, in constant memory.

A path that was named always is an input; a file found in a folder is one if its content or its name is
that of a picture, a video or an archive. Every other file is counted by reason. Members of archives come
from `clipmod_cli.sources.archives.items`. Nothing is decoded here.
"""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clipmod_cli.decode.formats import format_by_extension
from clipmod_cli.decode.reading.items import hash_path
from clipmod_cli.sources.archives.items import list_input, look_inside
from clipmod_cli.sources.base import OLDER, InputPath, InputState, Rules, Skipped, SourceInput, same_file
from clipmod_cli.types import Failure, Item


class LocalFiles:
    """The files and folders of this machine, as a `Source`."""

    def expand(self, name: str, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
        """Yield the Items of a path; folders sorted by the bytes of their names."""
        for path in _paths(name):
            if _is_folder(path):
                count = 0
                for place in _Walk(path, rules, skipped).files():
                    for item in look_inside(place, rules, skipped):
                        count += 1
                        yield item
                skipped.listed[path] = count
            else:
                yield from look_inside(InputPath(path), rules, skipped)

    def list(self, name: str, rules: Rules, skipped: Skipped) -> Iterator[SourceInput]:
        """Yield the inputs of a path, archives as one; in the order of `expand`."""
        for path in _paths(name):
            folder = path if _is_folder(path) else None
            places = [InputPath(path)] if folder is None else _Walk(path, rules, skipped).files()
            for place in places:
                if (listed := list_input(place, folder, rules, skipped)) is not None:
                    yield listed

    def open(self, listed: SourceInput, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
        """Yield the Item of a path, or the members of its archive."""
        empty, count = skipped.reasons["empty archive"], 0
        for item in look_inside(InputPath(listed.source, listed.rel), rules, skipped):
            count += 1
            yield item
        if not count and skipped.reasons["empty archive"] == empty:
            yield Item(source=listed.source, index=0)  # it has changed since, and decoding it fails

    def state_of(self, record: Mapping[str, Any], name: str, *, verify: bool) -> InputState:
        """Compare the file's size and time with those of its record, and the SHA-256 if `verify`."""
        try:
            info = os.stat(name)  # noqa: PTH116 — the name may hold any byte
        except (FileNotFoundError, NotADirectoryError):
            return "gone"
        except (OSError, ValueError):
            return "unchanged"
        if not same_file(record, info.st_size, info.st_mtime_ns):
            return "changed"
        is_same = not verify or record["member"] is not None or hash_path(name) == record["sha256"]
        return "unchanged" if is_same else "changed"


def _paths(name: str) -> list[str]:
    if sys.platform == "win32" and glob.has_magic(name) and not os.path.lexists(name):
        # cmd.exe and PowerShell do not expand patterns
        return sorted(glob.glob(name), key=os.fsencode) or [name]  # noqa: PTH207
    return [name]


def _is_folder(path: str) -> bool:
    try:
        return os.path.isdir(path)  # noqa: PTH112 — paths stay strings: they may hold any byte
    except ValueError:  # an embedded NUL; decoding it fails with not_found
        return False


@dataclass(slots=True)
class _Folder:
    """A folder during the walk; `names` are those still to visit, the next one last."""

    path: str
    rel: str
    names: list[bytes]
    identity: object


@dataclass(slots=True)
class _Walk:
    """One walk below one named folder. Has its own stack: folders may nest deeper than Python's calls."""

    root: str
    rules: Rules
    skipped: Skipped
    stack: list[_Folder] = field(default_factory=list)

    def files(self) -> Iterator[InputPath]:
        """Yield the inputs below the root."""
        yield from self._enter(self.root, "")
        while self.stack:
            folder = self.stack[-1]
            if not folder.names:
                self.stack.pop()
                continue
            name = os.fsdecode(folder.names.pop())
            yield from self._entry(os.path.join(folder.path, name), folder.rel + name)  # noqa: PTH118

    def _enter(self, path: str, rel: str) -> Iterator[InputPath]:
        identity = _identity(path)
        if any(identity == above.identity for above in self.stack):
            self.skipped.reasons["loop"] += 1
            return
        try:
            names = sorted(os.listdir(os.fsencode(path)), reverse=True)  # noqa: PTH208
        except OSError:
            # The folder itself becomes an input, so that it gets an error record.
            self.skipped.unlisted.add(self.root)
            yield InputPath(path, rel.removesuffix("/"))
            return
        self.stack.append(_Folder(path, rel, names, identity))

    def _entry(self, path: str, rel: str) -> Iterator[InputPath]:
        info = _stat(path, follow=self.rules.follow)
        folder = info is not None and stat.S_ISDIR(info.st_mode)
        reason = self.rules.skip_reason(rel, folder=folder)
        if reason != "hidden" and info is not None and stat.S_ISLNK(info.st_mode):
            reason = "link"
        if reason is not None:
            self.skipped.add(reason, path, folder=folder)
        elif info is None:
            if not os.path.lexists(path):
                self.skipped.unlisted.add(self.root)
            yield InputPath(path, rel)  # removed, or a dangling link to be followed: it gets an error record
        elif folder:
            yield from self._enter(path, rel + "/")
        elif self.rules.is_older(info.st_mtime_ns):
            self.skipped.reasons[OLDER] += 1
        elif stat.S_ISREG(info.st_mode) or format_by_extension(path) is not None:
            yield InputPath(
                path, rel
            )  # a regular file of another type is skipped once its first bytes are read
        else:
            self.skipped.reasons["other type"] += 1


def _stat(path: str, *, follow: bool) -> os.stat_result | None:
    """Return the status of a path, None on error."""
    try:
        info = os.lstat(path)
        return os.stat(path) if follow and stat.S_ISLNK(info.st_mode) else info  # noqa: PTH116
    except OSError:
        return None


def _identity(path: str) -> object:
    try:
        info = os.stat(path)  # noqa: PTH116
    except OSError:
        return path
    return (info.st_dev, info.st_ino)
