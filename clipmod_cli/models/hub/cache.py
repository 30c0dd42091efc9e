"""One repository's folder in the Hugging Face cache, as every tool of that family lays it out.

    models--OWNER--NAME/
        blobs/ETAG                  a file's bytes
        snapshots/COMMIT/NAME       a link to its blob
        refs/main                   the commit that main was at
        clipmod-lock.json           ours, and so are blobs/ETAG.clipmod.incomplete

So weights that open_clip or transformers fetched are found here, and they find ours.
Knows no hub and no network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clipmod_cli.models.hub.lock import LOCK_NAME, Lock, is_commit, read_lock, write_lock
from clipmod_cli.models.hub.progress import DownloadProgress

_HASH_CHUNK = 1 << 20
# Big enough that hashing, not calling, takes the time.


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

    def lock(self) -> Lock | None:
        """Return the lock, if there is one; raises MissingModelError if it is unusable."""
        return read_lock(self.lock_path)

    def write_lock(self, lock: Lock) -> None:
        """Replace the lock."""
        write_lock(self.lock_path, lock)

    def file(self, commit: str, name: str) -> Path:
        """Return where a file of a commit is read from."""
        return self.path / "snapshots" / commit / name

    def blob(self, etag: str) -> Path:
        """Return where the bytes with this hash are kept."""
        return self.path / "blobs" / etag

    def partial(self, etag: str) -> Path:
        """Return where the bytes with this hash are kept until all have come."""
        return self.path / "blobs" / f"{etag}.clipmod.incomplete"

    def main(self) -> str | None:
        """Return the commit that main was at when it was last fetched, if known."""
        try:
            commit = (self.path / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return commit if is_commit(commit) else None

    def names(self, commit: str) -> frozenset[str]:
        """Return which files of a commit are here and not empty."""
        try:
            entries = list((self.path / "snapshots" / commit).iterdir())
        except OSError:
            return frozenset()
        return frozenset(entry.name for entry in entries if size_of(entry))

    def place(self, etag: str, commit: str, name: str) -> Path:
        """Make a blob readable as a file of a commit; return that file."""
        blob, file = self.blob(etag), self.file(commit, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        link = file.with_name(f".{name}.{os.getpid()}.link")
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(os.path.relpath(blob, file.parent))
            link.replace(file)
        except (OSError, NotImplementedError):  # a file system without links: the bytes themselves go there
            link.unlink(missing_ok=True)
            blob.replace(file)
        return file

    def remove(self, commit: str, name: str) -> None:
        """Delete a file of a commit, its bytes too, so that nothing reads them again."""
        file = self.file(commit, name)
        if file.is_symlink():
            blob = Path(os.path.abspath(file.parent / file.readlink()))  # noqa: PTH100 - one hop, not all
            if blob.parent == Path(os.path.abspath(self.path / "blobs")):  # noqa: PTH100
                blob.unlink(missing_ok=True)
        file.unlink(missing_ok=True)

    def set_main(self, commit: str) -> None:
        """Note that main is at this commit, for tools that ask for main while offline."""
        ref = self.path / "refs" / "main"
        ref.parent.mkdir(parents=True, exist_ok=True)
        fresh = ref.with_name(f"main.{os.getpid()}.tmp")
        fresh.write_text(commit, encoding="utf-8")
        fresh.replace(ref)

    @contextmanager
    def held(self, progress: DownloadProgress) -> Iterator[None]:
        """Keep other processes from changing this folder meanwhile."""
        from filelock import FileLock, Timeout

        path = self.cache_dir / ".locks" / self.path.name / "clipmod.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(path)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            progress.say(f"another process is downloading {self.repo}; waiting for it")
            guard.acquire()
        try:
            yield
        finally:
            guard.release()


def size_of(path: Path) -> int:
    """Return a file's size in bytes; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_id_of(path: Path) -> str:
    """Return what git names a file with these bytes (the hub's id for small files)."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


log = logging.getLogger(__name__)

SETTLED_S = 3.0
"""A file changed more recently than this may change again within one tick of its clock (2 s on FAT), and
would look the same: its hash is not kept."""


def own_folder() -> Path:
    """Return where hashes are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("clipmod", appauthor=False) / "hashes"


def sha256_once(path: Path) -> str:
    """Return the file's sha256 in hex, as it was kept if nothing says that the file changed since.

    Raises:
        OSError: the file cannot be read.
    """
    real = path.resolve()
    kept = own_folder() / f"{hashlib.sha256(os.fsencode(real)).hexdigest()}.json"
    begun = (
        time.time()
    )  # before the state: what is written in the same tick afterwards has to count as recent
    before = _state(real)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["state"] == before and len(known["sha256"]) == 64:
            return str(known["sha256"])
    digest = sha256_of(real)
    if _state(real) == before and begun - max(before[-2:]) / 1e9 > SETTLED_S:
        _keep(kept, {"state": before, "sha256": digest})
    return digest


def _state(path: Path) -> list[int]:
    """Return what changes when the file does: writing to it sets the last, which nobody can set back."""
    told = path.stat()
    return [told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns]


def _keep(path: Path, document: dict[str, object]) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(document), encoding="utf-8")
        fresh.replace(path)
    except OSError as e:
        log.debug("the hash of a file cannot be kept in %s: %s", path.parent, e)
        with contextlib.suppress(OSError):
            fresh.unlink()
