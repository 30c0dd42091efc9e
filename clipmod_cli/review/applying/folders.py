"""Folders opened without following a link, and a rename that never replaces a file.

All file operations of `apply` are relative to such descriptors: a folder that is swapped for a link in the
meantime leads nowhere.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

IS_SUPPORTED: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether this system has descriptors of folders; Windows has none."""

_FOLDER: Final = (
    getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_PATH", os.O_RDONLY)  # with O_PATH, a folder need not be readable to be passed through
)
_UNSUPPORTED: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
_EXCLUSIVE: Final = (("renameat2", 1), ("renameatx_np", 4))
"""The calls of Linux and macOS, and their flag for not replacing."""


@dataclass(frozen=True, slots=True)
class Place:
    """A name in an open folder; the name need not exist."""

    folder: int
    name: str

    def lstat(self) -> os.stat_result | None:
        """Return the status of what is there, of a link its own; None if nothing is."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def unlink(self) -> None:
        """Remove the file."""
        os.unlink(self.name, dir_fd=self.folder)

    def beside(self, name: str) -> Place:
        """Return another name in the same folder."""
        return Place(self.folder, name)

    def sync_folder(self) -> None:
        """Write the entries of the folder to the disk; some file systems cannot."""
        descriptor = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder)
        try:
            with suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def place_of(path: str) -> Iterator[Place]:
    """Give the place of an absolute path in its open folder.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: a part of it is a link or a file.
        OSError: it cannot be opened.
    """
    *parts, name = path.strip("/").split("/")
    top = os.open("/", _FOLDER)
    with _below(top, parts, make=False) as folder:
        yield Place(folder, name)


@contextmanager
def place_below(top: int, relative: str, *, make: bool) -> Iterator[Place]:
    """Give the place of a path below an open folder; `make` makes the folders between. Raises likewise."""
    *parts, name = relative.split("/")
    with _below(os.dup(top), parts, make=make) as folder:
        yield Place(folder, name)


@contextmanager
def _below(folder: int, parts: list[str], *, make: bool) -> Iterator[int]:
    """Give the folder of these names below another one, which is closed."""
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def rename(origin: Place, target: Place) -> None:
    """Rename a file; never replace another one.

    Where the file system has no such call, the file gets its second name before it loses the first.

    Raises:
        FileExistsError: there is something at the target.
        OSError: with EXDEV if the target is on another device.
    """
    for call, flag in _calls():
        if not call(origin.folder, os.fsencode(origin.name), target.folder, os.fsencode(target.name), flag):
            return
        if (number := ctypes.get_errno()) not in _UNSUPPORTED:
            raise OSError(number, os.strerror(number), origin.name)
    os.link(
        origin.name,
        target.name,
        src_dir_fd=origin.folder,
        dst_dir_fd=target.folder,
        follow_symlinks=False,
    )
    origin.unlink()


@cache
def _calls() -> list[tuple[Callable[..., int], int]]:
    library: Any = ctypes.CDLL(None, use_errno=True)
    return [(getattr(library, name), flag) for name, flag in _EXCLUSIVE if hasattr(library, name)]
