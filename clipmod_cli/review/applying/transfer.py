"""Moves or copies one file whose bytes are known by their hash: it is whole at one place at any moment."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from clipmod_cli.output.moves import Move
from clipmod_cli.review.applying.folders import Place, rename

PIECE_BYTES: Final = 1 << 20


class RefusedMoveError(Exception):
    """A file is left where it is; the message is a clause that says why."""


def part_of(move: Move) -> str:
    """Return the name under which a copy is written until it is whole."""
    return f".clipmod-{move.sha256[:16]}-{move.number}.part"


def transfer(origin: Place, target: Place, move: Move, *, keep: bool = False) -> None:
    """Move a file to a place where nothing is; its bytes must be those of the move.

    On one device it is renamed. To another one it is copied, synced, compared and only then removed.

    Args:
        origin: where it is.
        target: where it is to be.
        move: its hash.
        keep: copy it in any case.

    Raises:
        RefusedMoveError: it has other bytes, or is not a regular file.
        FileExistsError: there is something at the target.
        OSError: it cannot be moved.
    """
    with opened(origin) as file:
        before = os.fstat(file)
        if digest_of(file) != move.sha256:
            raise RefusedMoveError("it has changed since it was judged")
        if not keep:
            try:
                rename(origin, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            else:
                _check_renamed(origin, target, before)
                return
        _copy(file, target, move, before)
        if not keep:
            _remove(origin, before)


@contextmanager
def opened(place: Place) -> Iterator[int]:
    """Give a descriptor of a regular file.

    Raises:
        RefusedMoveError: it is a link or no regular file.
        OSError: it cannot be opened.
    """
    status = place.lstat()
    if status is None:
        raise RefusedMoveError("it is gone")
    if stat.S_ISLNK(status.st_mode):
        raise RefusedMoveError("it is a link")
    if not stat.S_ISREG(status.st_mode):
        raise RefusedMoveError("it is not a regular file")
    # a pipe that takes its name now must not block
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(place.name, flags, dir_fd=place.folder)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise RefusedMoveError("it is not a regular file")
        yield file
    finally:
        os.close(file)


def digest_of(file: int) -> str:
    """Return the SHA-256 of a file, from its start."""
    digest = hashlib.sha256()
    for piece in _pieces(file):
        digest.update(piece)
    return digest.hexdigest()


def restore(place: Place, move: Move) -> None:
    """Give a file the permissions and the modification time of its move, unless it has them."""
    with opened(place) as file:
        status = os.fstat(file)
        if stat.S_IMODE(status.st_mode) != move.mode:
            os.fchmod(file, move.mode)
        if status.st_mtime_ns != move.mtime_ns:
            os.utime(file, ns=(status.st_atime_ns, move.mtime_ns))


def _pieces(file: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(file, PIECE_BYTES, at):
        at += len(piece)
        yield piece


def _identity(status: os.stat_result | None) -> tuple[int, ...] | None:
    """Return by what a file and its content are recognised."""
    if status is None:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _check_renamed(origin: Place, target: Place, before: os.stat_result) -> None:
    """Give back a file that took the name of the one that was hashed, or that was written meanwhile."""
    if _identity(target.lstat()) != _identity(before):
        try:
            rename(target, origin)
        except FileExistsError:
            raise RefusedMoveError(
                f"it changed while it was moved, and its name is taken again: it is now {target.name}"
            ) from None
        raise RefusedMoveError("it has changed since it was judged")


def _copy(file: int, target: Place, move: Move, before: os.stat_result) -> None:
    """Write a copy under another name, sync and compare it, and give it its name."""
    part = target.beside(part_of(move))
    with suppress(FileNotFoundError):
        part.unlink()  # of a killed run: no other move has this name
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        copy = os.open(part.name, flags, 0o600, dir_fd=part.folder)
        try:
            for piece in _pieces(file):
                _write(copy, piece)
            _copy_attributes(file, copy, before)
            os.fsync(copy)
            if hasattr(os, "posix_fadvise"):  # what is compared is to come from the disk
                os.posix_fadvise(copy, 0, 0, os.POSIX_FADV_DONTNEED)
            if digest_of(copy) != move.sha256 or _identity(os.fstat(file)) != _identity(before):
                raise RefusedMoveError("it changed while it was copied")
        finally:
            os.close(copy)
        rename(part, target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    target.sync_folder()


def _write(file: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(file, view) :]


def _copy_attributes(file: int, copy: int, status: os.stat_result) -> None:
    """Give a copy the owner, permissions, extended attributes and times of the file, as far as it may be."""
    mode = stat.S_IMODE(status.st_mode)
    try:
        os.fchown(copy, status.st_uid, status.st_gid)
    except OSError:  # only root may give a file away
        mode &= 0o1777
    if hasattr(os, "listxattr"):
        with suppress(OSError):
            for name in os.listxattr(file):
                os.setxattr(copy, name, os.getxattr(file, name))
    os.fchmod(copy, mode)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))


def _remove(origin: Place, before: os.stat_result) -> None:
    """Remove a file that was copied; other bytes that have taken its name meanwhile stay."""
    if _identity(origin.lstat()) == _identity(before):
        origin.unlink()
        origin.sync_folder()
