"""Temporary files for downloads that are too large for memory. What is left of them is removed at exit."""

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
from typing import Self

from clipmod_cli.errors import ItemError
from clipmod_cli.types import Failure, Item


class SpillFile:
    """A temporary file that is being written."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self.path = path

    def write(self, data: bytes) -> None:
        """Write all of `data`; raises ItemError `internal_error` if the disk refuses it."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as e:
            raise _write_error(e) from e


class SpillFolder:
    """A temporary folder for large downloads, created with its first file and removed at exit.

    A file that was written belongs to the caller, who removes it.
    """

    def __init__(self) -> None:
        self._path: str | None = None

    @contextmanager
    def new_file(self) -> Iterator[SpillFile]:
        """Open a new file for writing; it is removed if the block raises.

        Raises:
            ItemError: `internal_error`, if it cannot be created.
        """
        try:
            if self._path is None:
                self._path = tempfile.mkdtemp(prefix="clipmod-")
                atexit.register(shutil.rmtree, self._path, ignore_errors=True)
            descriptor, path = tempfile.mkstemp(dir=self._path)
        except OSError as e:
            raise _write_error(e) from e
        try:
            yield SpillFile(descriptor, path)
        except BaseException:
            _remove(path)
            raise
        finally:
            os.close(descriptor)


def _write_error(error: OSError) -> ItemError:
    reason = (error.strerror or "unknown").lower()
    return ItemError("internal_error", f"the download cannot be written to the temporary folder: {reason}")


class TemporaryFiles:
    """The temporary files of one run's items. Thread-safe; what is left is removed at the run's end."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._lock = threading.Lock()
        self._closed = False

    def track(self, items: Iterable[Item | Failure]) -> Iterator[Item | Failure]:
        """Yield the items, and take over their files; ends once the run is over."""
        for item in items:
            if isinstance(item, Item) and item.spilled is not None and not self._add(item.spilled):
                return
            yield item

    def remove(self, item: Item) -> None:
        """Remove the item's file, if it has one."""
        if item.spilled is not None:
            with self._lock:
                self._paths.discard(item.spilled)
            _remove(item.spilled)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            paths, self._paths = self._paths, set()
        for path in paths:
            _remove(path)

    def _add(self, path: str) -> bool:
        with self._lock:
            if not self._closed:
                self._paths.add(path)
                return True
        _remove(path)
        return False


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink()
