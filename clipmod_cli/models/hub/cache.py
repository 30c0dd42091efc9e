"""One repository's folder in the Hugging Face cache, in the layout that all tools of that family share.

    models--OWNER--NAME/
        blobs/ETAG                  a file's content
        snapshots/COMMIT/NAME       a link to its blob
        refs/main                   the commit of main at the last download
        clipmod-lock.json           clipmod's own, and so are blobs/ETAG.clipmod.incomplete

So clipmod finds weights that open_clip or transformers fetched, and they find clipmod's. No network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clipmod_cli.atomic import atomic_file
from clipmod_cli.models.hub.files import size_of
from clipmod_cli.models.hub.lock import LOCK_NAME, LockFile, is_commit, read_lock


@dataclass(frozen=True, slots=True)
class RepoFolder:
    """Where a repository's files are in the cache."""

    cache_dir: Path
    repo: str

    @property
    def path(self) -> Path:
        """The repository's own folder."""
        return self.cache_dir / ("models--" + self.repo.replace("/", "--"))

    @property
    def lock_path(self) -> Path:
        """The lock file."""
        return self.path / LOCK_NAME

    def lock(self) -> LockFile | None:
        """Return the lock file's content, None without one; MissingModelError if it is unusable."""
        return read_lock(self.lock_path)

    def file(self, commit: str, name: str) -> Path:
        """Return the path of a file of a commit."""
        return self.path / "snapshots" / commit / name

    def blob(self, etag: str) -> Path:
        """Return the path of the content with this hash."""
        return self.path / "blobs" / etag

    def partial(self, etag: str) -> Path:
        """Return the path of the content with this hash while it is incomplete."""
        return self.path / "blobs" / f"{etag}.clipmod.incomplete"

    def main_commit(self) -> str | None:
        """Return the commit of main at the last download, if known."""
        try:
            commit = (self.path / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return commit if is_commit(commit) else None

    def file_names(self, commit: str) -> frozenset[str]:
        """Return the names of the files of a commit that exist and are not empty."""
        snapshot = self.path / "snapshots" / commit
        try:
            files = [path for path in snapshot.rglob("*") if path.is_file() and size_of(path)]
        except OSError:
            return frozenset()
        return frozenset(path.relative_to(snapshot).as_posix() for path in files)

    def link(self, etag: str, commit: str, name: str) -> None:
        """Make a blob readable as a file of a commit."""
        blob, file = self.blob(etag), self.file(commit, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        link = file.with_name(f".{file.name}.{os.getpid()}.link")
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(os.path.relpath(blob, file.parent))
            link.replace(file)
        except (OSError, NotImplementedError):  # a file system without links: move the blob itself
            link.unlink(missing_ok=True)
            blob.replace(file)

    def remove(self, commit: str, name: str) -> None:
        """Delete a file of a commit and its blob."""
        file = self.file(commit, name)
        if file.is_symlink():
            blob = Path(os.path.abspath(file.parent / file.readlink()))  # noqa: PTH100 - one hop, not all
            if blob.parent == Path(os.path.abspath(self.path / "blobs")):  # noqa: PTH100
                blob.unlink(missing_ok=True)
        file.unlink(missing_ok=True)

    def set_main_commit(self, commit: str) -> None:
        """Record the commit of main, for tools that look for main while offline."""
        ref = self.path / "refs" / "main"
        ref.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(ref) as file:
            file.write(commit.encode())

    @contextmanager
    def exclusive(self, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the folder's process lock; `say` shows a message if another process has it."""
        from filelock import FileLock, Timeout

        path = self.cache_dir / ".locks" / self.path.name / "clipmod.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        process_lock = FileLock(path)
        try:
            process_lock.acquire(timeout=0)
        except Timeout:
            say(f"another process is downloading {self.repo}; waiting for it")
            process_lock.acquire()
        try:
            yield
        finally:
            process_lock.release()
