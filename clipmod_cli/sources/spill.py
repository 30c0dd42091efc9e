"""A temporary folder for downloads that are too large to be held: made when first needed, gone at exit."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.sources.web.hosts import DownloadBudget
from clipmod_cli.types import Failure, Item

ROOM_BYTES = 4_000_000_000
"""Of all files that nobody has taken yet: eight of the largest videos that are allowed."""


class SpillFile:
    """A file that is being written."""

    def __init__(self, descriptor: int, path: str) -> None:
        """Write to this descriptor."""
        self._descriptor = descriptor
        self.path = path

    def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            FetchError: `internal_error`, for the disk is ours and not the server's.
        """
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as e:
            raise _cannot_keep(e) from e


class SpillFolder:
    """Where large downloads go. Each file belongs to whoever takes it; what is left at exit is removed.

    Attributes:
        room: how much may be in it; who takes a file gives back its length.
    """

    def __init__(self, room: DownloadBudget | None = None) -> None:
        """Touch nothing yet."""
        self.room = room or DownloadBudget(ROOM_BYTES)
        self._path: str | None = None

    @contextmanager
    def new_file(self) -> Iterator[SpillFile]:
        """Give a new file to be written; it is removed if the block raises.

        Raises:
            FetchError: `internal_error`, if there can be none.
        """
        try:
            descriptor, path = tempfile.mkstemp(dir=self._made())
        except OSError as e:
            raise _cannot_keep(e) from e
        try:
            yield SpillFile(descriptor, path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(path).unlink()
            raise
        finally:
            os.close(descriptor)

    def _made(self) -> str:
        if self._path is None:
            self._path = tempfile.mkdtemp(prefix="clipmod-")
            atexit.register(shutil.rmtree, self._path, ignore_errors=True)
        return self._path


def _cannot_keep(error: OSError) -> FetchError:
    reason = (error.strerror or "unknown").lower()
    return FetchError("internal_error", f"the download cannot be kept in the temporary folder: {reason}")


class TemporaryFiles:
    """The files of the items of one run. Safe to use from any thread; what is left goes at its end."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._lock = threading.Lock()
        self._over = False

    def watch(self, items: Iterable[Item | Failure]) -> Iterator[Item | Failure]:
        """Yield the items, and take over the files that they bring."""
        for item in items:
            if isinstance(item, Item) and item.spilled is not None and not self._take(item.spilled):
                return
            yield item

    def done(self, item: Item) -> None:
        """Remove the item's file, if it brought one."""
        if item.spilled is not None:
            with self._lock:
                self._paths.discard(item.spilled)
            _remove(item.spilled)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove all that is left: of items that were brought and never judged."""
        with self._lock:
            self._over = True
            left, self._paths = self._paths, set()
        for path in left:
            _remove(path)

    def _take(self, path: str) -> bool:
        with self._lock:
            if not self._over:
                self._paths.add(path)
                return True
        _remove(path)  # nobody judges any more
        return False


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink()
