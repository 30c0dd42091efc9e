"""The seam `PartStore`: the folder of a run in parts, on a disk or in an object store.

It knows names and bytes; what the files mean is told in `plan`, `run_file` and `commit`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol

from clipmod_cli.atomic import atomic_file
from clipmod_cli.errors import OutputError, OutputMismatchError, UsageError
from clipmod_cli.output.database import quoted

UNFINISHED_FOR_S: Final = 24 * 60 * 60
"""After this time a file that was begun beside the one it was to become is that of a killed process."""

NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""How a file system without hard links refuses one."""


class PartStore(Protocol):
    """A folder of a run, on a disk or in an object store.

    Names are relative, with `/`. Any thread may call any method. All methods raise OutputError if the store
    cannot be read or written.

    Attributes:
        name: as the user named it, with a slash at its end.
    """

    name: str

    def read(self, name: str) -> bytes | None:
        """Return the whole content, None if there is no such file."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Create a file whole and durably if there is none of this name; return False if there is one.

        Of all processes that create the same name, one gets True.
        """
        ...

    def put(self, name: str, path: Path) -> None:
        """Move a local file to this name, whole or not at all; replaces what is there."""
        ...

    def get(self, name: str) -> AbstractContextManager[Path]:
        """Give a local path with the content, for the time of the block.

        Raises:
            OutputError: there is no such file.
        """
        ...

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names of all files under a folder, sorted by bytes; none if it does not exist."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file; no error if there is none."""
        ...

    def remove_unfinished(self) -> None:
        """Delete the files that killed processes began a day ago or earlier."""
        ...

    def age_s(self, name: str) -> float | None:
        """Return the seconds since it was last written, by the store's clock; None if there is none."""
        ...

    def replace(self, name: str, old: bytes, new: bytes) -> bool:
        """Replace the content if it is `old`; return whether it was. Of all who replace the same, one is."""
        ...


class LocalStore:
    """A folder on a local or network file system that has hard links."""

    def __init__(self, name: str) -> None:
        """Name the folder; it is created with its first file.

        Args:
            name: a path, as the user gave it.
        """
        self.name = f"{name.rstrip('/')}/"
        self._folder = Path(name).expanduser()

    def read(self, name: str) -> bytes | None:
        """Return the whole content, None if there is no such file."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error("read", name, error) from error

    def create(self, name: str, content: bytes) -> bool:
        """Create a file by link(2), which is atomic also on network file systems."""
        with self._writing(name) as path, _temporary(path) as temporary:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            created = _link(temporary, path)
            if created:
                _sync_folder(path.parent)
            return created

    def put(self, name: str, path: Path) -> None:
        """Move a local file to this name by one rename, after a copy if it is on another file system."""
        with self._writing(name) as target:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            try:
                path.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with path.open("rb") as source, atomic_file(target, sync=True) as copy:
                    shutil.copyfileobj(source, copy)
                path.unlink()
            _sync_folder(target.parent)

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        """Give the file itself."""
        path = self._path(name)
        if not path.is_file():
            raise OutputError(f"cannot read {path}: there is no such file")
        yield path

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names of all files under a folder, sorted by bytes; unfinished files are left out."""
        try:
            found = sorted(self._below(folder.strip("/")), key=os.fsencode)
        except OSError as error:
            raise self._error("list", folder, error) from error
        yield from found

    def delete(self, name: str) -> None:
        """Delete a file; no error if there is none."""
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise self._error("delete", name, error) from error

    def remove_unfinished(self) -> None:
        """Delete the hidden `.part` files that were last written a day ago or earlier."""
        for path in self._folder.rglob(".*.part"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime >= UNFINISHED_FOR_S:
                    path.unlink()

    def age_s(self, name: str) -> float | None:
        """Return the seconds since it was last written; the clock is that of the file system."""
        path = self._path(name)
        try:
            written = path.stat().st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error("read", name, error) from error
        with self._writing(name), _temporary(path) as probe:
            probe.touch(exist_ok=False)
            return max(0.0, probe.stat().st_mtime - written)

    def replace(self, name: str, old: bytes, new: bytes) -> bool:
        """Replace the content if it is `old`, under a file lock."""
        from filelock import FileLock

        with self._writing(name) as path, FileLock(path.with_name(".lock")):
            if self.read(name) != old:
                return False
            with atomic_file(path, sync=True) as file:
                file.write(new)
            return True

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _below(self, folder: str) -> Iterator[str]:
        try:
            entries = list(os.scandir(self._path(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                yield from self._below(name)
            else:
                yield name

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """Give the path of a file to be written, in a folder that exists."""
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path
        except OSError as error:
            raise self._error("write", name, error) from error

    def _error(self, action: str, name: str, error: OSError) -> OutputError:
        return OutputError(f"cannot {action} {self._path(name)}: {error.strerror or error}")


def sha256_of(path: Path) -> str:
    """Return the hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def checked_file(store: PartStore, name: str, sha256: str, advice: str) -> Iterator[Path]:
    """Give a local path of a file that was written once and must be as it was then.

    Args:
        store: holds it.
        name: of the file.
        sha256: its hash.
        advice: a sentence for people, what to do if it is another one.

    Raises:
        OutputMismatchError: it is gone or was changed.
        OutputError: it cannot be read.
    """
    with ExitStack() as stack:
        try:
            path = stack.enter_context(store.get(name))
        except OutputError as error:
            if store.read(name) is not None:
                raise
            raise OutputMismatchError(f"{store.name}{name} is gone. {advice}") from error
        if sha256_of(path) != sha256:
            raise OutputMismatchError(f"{store.name}{name} was changed after it was written. {advice}")
        yield path


def open_part_store(name: str) -> PartStore:
    """Return the store of a run in parts by the scheme of its name.

    Raises:
        UsageError: there is no store of this scheme, or a file has the name.
        MissingPackageError: its package is not installed.
    """
    scheme, separator, _ = name.partition("://")
    if not separator:
        if (path := Path(name).expanduser()).exists() and not path.is_dir():
            raise UsageError(f"{name} is a file. A run in parts is a folder: name its -o")
        quoted(name)  # DuckDB reads the files of the run
        return LocalStore(name)
    if scheme not in {"s3", "gs"}:
        raise UsageError(f"-o {name}: parts are written to folders, s3:// and gs://, not to {scheme}://")
    from clipmod_cli.parts.objects.store import open_object_store
    from clipmod_cli.sources.registry import check_packages

    check_packages([name])
    return open_object_store(name)


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # a network file system may repeat a request whose answer was lost: the file is there by this link
        return temporary.stat().st_nlink > 1
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        raise OutputError(
            f"cannot write to {path.parent}: its file system has no hard links, by which one process alone "
            "commits a part. Name a folder on another one"
        ) from error
    return True


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Give the name of a new file beside `path`, which is removed afterwards."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Write the entries of a folder to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
