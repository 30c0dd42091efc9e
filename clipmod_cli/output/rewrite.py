"""Lines out of the midst of a file: by one atomic rewrite, so that a kill leaves the old file or the new.

Knows nothing of what the lines say.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self


class Rewrite:
    """Reads a file line by line and, if anything is dropped, replaces it by what was kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._source = path.open("rb")
        self._kept_bytes = 0
        self._copy: Any = None
        self._changed = False
        self._torn = False

    def lines(self) -> Iterator[bytes]:
        """Yield all lines; the last one may be torn."""
        yield from self._source

    def cut(self) -> None:
        """Leave out the current line, which is the last."""
        self._torn = True

    def keep(self, line: bytes) -> None:
        """Keep this line."""
        if self._changed:
            self._copy.write(line)
        else:
            self._kept_bytes += len(line)

    def drop(self) -> None:
        """Leave the current line out."""
        if self._changed:
            return
        self._copy = tempfile.NamedTemporaryFile(  # noqa: SIM115 — closed in __exit__
            dir=self.path.parent, prefix=f".{self.path.name}.", delete=False
        )
        self._changed = True
        with self.path.open("rb") as source:
            left = self._kept_bytes
            while left and (part := source.read(min(left, 1 << 20))):
                self._copy.write(part)
                left -= len(part)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._source.close()
        if not self._changed:
            if self._torn and error is None:
                # In place: a copy of a long output for one line's sake may not even fit on the disk.
                os.truncate(self.path, self._kept_bytes)
            return
        part = Path(self._copy.name)
        try:
            if error is None:
                self._copy.flush()
                os.fsync(self._copy.fileno())
                part.chmod(self.path.stat().st_mode & 0o7777)
                self._copy.close()
                part.replace(self.path)
        finally:
            with contextlib.suppress(OSError):  # on a full disk it fails once more to flush
                self._copy.close()
            part.unlink(missing_ok=True)
