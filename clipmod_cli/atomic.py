"""Writing a file whole or not at all, and temporary files."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def atomic_file(path: Path, *, mode: int | None = None, sync: bool = False) -> Iterator[IO[bytes]]:
    """Give a new file that replaces `path` when the block ends, and is removed if the block raises.

    Args:
        path: in a folder that exists.
        mode: permissions of the file, by default those of any new file; until it is complete only its owner
            can read it.
        sync: write it to the disk before the rename, against a crash of the machine.

    Raises:
        OSError: it cannot be written.
    """
    # tempfile takes as long again as writing a picture
    part = path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM // 2)}.part")
    file = open(part, "x+b", opener=_for_its_owner)  # noqa: SIM115 - closed below, and never removed if it was there
    try:
        with file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask() if mode is None else mode)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def temporary_file(folder: Path | None = None, *, of: Path | None = None) -> Iterator[IO[bytes]]:
    """Give a new file that is removed when the block ends, also where the disk is full.

    `tempfile.NamedTemporaryFile` leaves it behind, and prints a traceback, if its buffer cannot be written on
    closing. Flush the file before it is read by its name.

    Args:
        folder: to hold it, in a folder of its own; by default that of the system for temporary files.
        of: a file that is made from it: if this process is killed, `remove_unfinished` of that removes it.

    Raises:
        OSError: it cannot be created.
    """
    prefix, suffix = ("clipmod-", None) if of is None else (f".{of.name}.", ".part")
    with tempfile.TemporaryDirectory(dir=folder, prefix=prefix, suffix=suffix) as own:
        file = Path(own, "lines").open("w+b")  # noqa: SIM115 - closed below
        try:
            yield file
        finally:
            with suppress(OSError):
                file.close()


def remove_unfinished(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; the caller knows that no process writes it now."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.{'?' * _RANDOM}.part"):
        with suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink()


_RANDOM = 8
"""Random characters in a name, as many as those of `tempfile`."""


def _for_its_owner(name: str, flags: int) -> int:
    """Open a new file that no other user may read."""
    return os.open(name, flags, 0o600)


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
