"""Opens inputs, and reads the members of archives one after the other, as streams; writes nothing to disk.

Archives are recognised by content, never by name: zip (also cbz, docx and the like), tar, and gzip, bzip2,
xz and zstd around a tar or a single file. Archives in archives are entered, to a maximum depth. 7z and RAR
are recognised but not read.

- A member is an input under the same rule as a file in a folder: its content or its name is that of a
  picture, a video or an archive. One whose content cannot be read (encrypted, damaged) is reported.
- A member's name is text, never a path. Names of nested members are joined by `!/`: `inner.zip!/a.png`.
- The file in a `photo.jpg.gz` is named `photo.jpg`. A `.tar.gz` is one archive, not two.
- A link in a tar has no content and is counted; in a zip it is judged if its content is a picture's, since
  many programs ignore the flag that marks it as a link.
- A bad member costs itself, a broken archive what follows the break, an exceeded budget all the rest: one
  `LostMember` reports it, after everything before.
- Memory holds one member and the one before it, and the archives around nested ones.

The caller's `MemberFilter` excludes members; Items and records are made elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO

from clipmod_cli.decode.formats import HEAD_BYTES, Format, sniff
from clipmod_cli.errors import ItemError
from clipmod_cli.sources.archives.limits import ArchiveBudget, ArchiveLimits, BudgetExceeded
from clipmod_cli.sources.archives.walk import (
    ArchiveWalk,
    Container,
    Found,
    LostMember,
    MemberFilter,
)

_OPEN_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
)
"""Without O_NONBLOCK opening a FIFO blocks until there is a writer. Windows lacks the first two."""


class Archive:
    """An open archive file; to be closed. Used by one thread.

    Attributes:
        size: in bytes.
        mtime_ns: its modification time.
    """

    def __init__(self, name: str, file: BinaryIO, kind: str) -> None:
        self._name = name
        self._file = file
        self._kind = kind
        status = os.fstat(file.fileno())
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns

    def members(
        self, wishes: MemberFilter | None = None, limits: ArchiveLimits | None = None
    ) -> Iterator[Found]:
        """Yield the members that are inputs, in the archive's own order; lazy, never raises.

        An error that ends the archive early comes last, as a `LostMember` without a name.
        """
        budget = ArchiveBudget(limits or ArchiveLimits())
        walk = ArchiveWalk(wishes or MemberFilter(), budget)
        found = walk.inside(Container(self._file, self.size, self._kind, self._name))
        while True:
            with budget.running():
                one = _next(found)
            if one is None:
                return
            yield one

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class OpenedInput:
    """What opening an input showed.

    Attributes:
        archive: the archive, to be closed, if it is one.
        format: by its first bytes; None if unknown.
        was_read: its first bytes were read; False for what is missing, unreadable or not a regular file.
    """

    archive: Archive | None = None
    format: Format | None = None
    was_read: bool = False


def open_input(path: str, *, name: str | None = None) -> OpenedInput:
    """Open the file once, read its first bytes, and keep it open if it is an archive. Never blocks.

    Args:
        path: of a file.
        name: the archive's name for users, if that is not the file's.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError):
        return OpenedInput()
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return OpenedInput()
        known = sniff(os.read(descriptor, HEAD_BYTES))
        if known is None or known.kind != "archive":
            return OpenedInput(format=known, was_read=True)
        file = os.fdopen(descriptor, "rb", buffering=0)
        descriptor = -1
        archive = Archive(PurePath(path).name if name is None else name, file, known.name)
        return OpenedInput(archive, known, was_read=True)
    except OSError:
        return OpenedInput()
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def open_archive(path: str, *, name: str | None = None) -> Archive | None:
    """Return the archive at `path`; None if there is no readable file, or one of another format."""
    return open_input(path, name=name).archive


def _next(found: Iterator[Found]) -> Found | None:
    """Return the next member, None at the end; an error of the whole archive becomes a `LostMember`."""
    try:
        return next(found, None)
    except ItemError as error:
        return LostMember(None, error.code, f"the archive cannot be read on: {error.message}")
    except BudgetExceeded as error:
        return LostMember(None, "archive_limit", f"the archive was left, its rest is not judged: {error}")
    except OSError as error:
        return LostMember(None, "read_error", f"the archive cannot be read on: {error.strerror or error}")
    except MemoryError:
        return LostMember(None, "out_of_memory", "not enough memory to read on in the archive")
    except Exception as error:  # noqa: BLE001 — a bug costs one archive, never the run
        reason = f"{type(error).__name__}: {error}"
        return LostMember(None, "internal_error", f"a bug in clipmod ({reason}); please report it")
