"""The lock of an output, which keeps a second process from writing it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from clipmod_cli.errors import OutputError


class OutputLock:
    """Keeps a second process off an output for as long as this one writes it.

    The lock is a file beside the output that names its holder; it goes when the lock does, and
    one that a killed process left behind holds nobody off.
    """

    def __init__(self, output: Path) -> None:
        """Name the lock of an output; nothing is taken yet."""
        from filelock import FileLock

        self.output = output
        self.path = output.with_name(f".{output.name}.lock")
        self._lock = FileLock(self.path)

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            OutputError: if another process holds it (named in the message), or it cannot be made.
        """
        from filelock import Timeout

        if not self.path.parent.is_dir():  # filelock would make it: on a disk that is not mounted, say
            raise OutputError(f"cannot write to {self.output}: there is no folder {self.path.parent}")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(f"{self.output} is being written by {self._holder()}") from None
        except OSError as e:
            raise OutputError(f"cannot write beside {self.output}: {e.strerror}") from e
        # A holder who let go also unlinked the file; filelock checks that ours is the one at the path.
        with contextlib.suppress(OSError):
            self.path.write_text(json.dumps({"pid": os.getpid(), "command": sys.argv}), encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the file and let go."""
        with contextlib.suppress(OSError):  # Windows does not remove what is open
            self.path.unlink()
        self._lock.release()

    def _holder(self) -> str:
        try:
            holder = json.loads(self.path.read_text(encoding="utf-8"))
            return f"another clipmod, process {holder['pid']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
