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
    """A lock file beside the output that names its process; one that a killed process left does not block."""

    def __init__(self, output: Path, *, patience_s: float = 0.0) -> None:
        """Set the paths; the lock is not taken yet.

        Args:
            output: what is locked.
            patience_s: how long to wait for another process, in seconds.
        """
        from filelock import FileLock

        self.output = output
        self.path = output.with_name(f".{output.name}.lock")
        self._lock = FileLock(self.path)
        self._patience_s = patience_s

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            OutputError: another process holds it, or it cannot be created.
        """
        from filelock import Timeout

        if not self.path.parent.is_dir():  # filelock would create it, for example where a disk is not mounted
            raise OutputError(f"cannot write to {self.output}: there is no folder {self.path.parent}")
        try:
            self._lock.acquire(timeout=self._patience_s)
        except Timeout:
            if not self.path.exists():  # filelock waits where creating a file gives ENOENT
                raise OutputError(f"cannot write to {self.output}: no file can be made beside it") from None
            raise OutputError(f"{self.output} is being written by {self._holder()}") from None
        except OSError as e:
            raise OutputError(f"cannot write beside {self.output}: {e.strerror}") from e
        # Releasing also unlinks the file; filelock checks that the locked file is the one at the path.
        with contextlib.suppress(OSError):
            self.path.write_text(json.dumps({"pid": os.getpid(), "command": sys.argv}), encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the file and release the lock."""
        with contextlib.suppress(OSError):  # Windows does not remove open files
            self.path.unlink()
        self._lock.release()

    def _holder(self) -> str:
        try:
            holder = json.loads(self.path.read_text(encoding="utf-8"))
            return f"another clipmod, process {holder['pid']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
