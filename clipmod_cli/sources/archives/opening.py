"""Archives as a source: their members one after the other, read as streams, nothing on disk.

Known by content, never by name: zip (also cbz, docx and the like), tar, and gzip, bzip2, xz and
zstd around a tar or a single file. Archives in archives are entered, to a depth. 7z and RAR are
told to be what they are, but not read.

- A member is an input like a file in a folder: if its content or its name is that of a picture, a
  video or an archive. What hides its content (encrypted, damaged) might be one, so it is told.
- A member's name is text, never a path. That of a nested one is joined by `!/`: `inner.zip!/a.png`.
- The file in a `photo.jpg.gz` is called `photo.jpg`. A `.tar.gz` is one archive, not two.
- A link in a tar has no content and is counted; in a zip it is judged if its content is a picture's,
  for many programs do not heed what says that it is a link.
- A bad member costs itself, a broken archive what follows the break, a spent budget the whole rest:
  one `LostMember` tells it, after all that came before.
- In memory are the bytes of one member and of the one before, and of the archives around them, if
  they are nested.

Which members the user does not want is asked of the caller; Items and records are made elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import PurePath
from typing import BinaryIO

from clipmod_cli.decode.formats import HEAD_BYTES
from clipmod_cli.errors import ItemError
from clipmod_cli.sources.archives.limits import ArchiveBudget, ArchiveLimits, BudgetExceeded
from clipmod_cli.sources.archives.walk import (
    ArchiveWalk,
    Container,
    Found,
    LostMember,
    MemberFilter,
    archive_kind,
)

_OPEN_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
)
"""Without O_NONBLOCK opening a FIFO waits for a writer for ever. Windows lacks the first two."""


class Archive:
    """An open file whose content is an archive; to be closed. Used by one thread.

    Attributes:
        size: in bytes.
        mtime_ns: when it was last changed.
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

        What ends the archive early is the last to come, as a `LostMember` without a name.
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


def open_archive(path: str, *, called: str | None = None) -> Archive | None:
    """Return the archive at `path`; None if there is nothing, or nothing readable, or something else.

    Args:
        path: of a file.
        called: the name by which people know it, if that is not the file's.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError):
        return None
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            head = os.read(descriptor, HEAD_BYTES)
            if (kind := archive_kind(head)) is not None:
                file = os.fdopen(descriptor, "rb", buffering=0)
                descriptor = -1
                return Archive(PurePath(path).name if called is None else called, file, kind)
    except OSError:
        return None
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return None


def _next(found: Iterator[Found]) -> Found | None:
    """Return the next that is found; what ends the outermost archive is found too."""
    try:
        return next(found, None)
    except ItemError as error:
        return LostMember(None, error.code, f"the archive cannot be read on: {error.message}")
    except BudgetExceeded as error:
        return LostMember(None, "archive_limit", f"the archive was left, its rest is not judged: {error}")
    except OSError as error:
        return LostMember(None, "read_error", f"the archive cannot be read on: {error.strerror or error}")
    except MemoryError:
        return LostMember(None, "out_of_memory", "there is not enough memory to read on in the archive")
    except Exception as error:  # noqa: BLE001 — a bug costs one archive, never the run
        reason = f"{type(error).__name__}: {error}"
        return LostMember(None, "internal_error", f"a bug in clipmod ({reason}); please report it")
