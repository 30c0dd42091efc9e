"""What the cache keeps of one source, held against its lock. No network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clipmod_cli.models.hub.cache import RepoFolder, sha256_of, size_of
from clipmod_cli.models.hub.lock import Lock, LockedFile
from clipmod_cli.models.hub.sources import HubSource

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """The files of a model on this machine.

    Attributes:
        paths: by name in the repository or folder; all in one folder.
        commit: of the repository; empty for a folder of the user's own and for
            what comes in a package, which only their content identifies.
        sha256: by name, as the lock has it; None where nothing was ever recorded.
        tokenizer: the folder with the vocabulary, for architectures that need one.
        vocabulary: the commit of the repository it came from; empty without one.
    """

    paths: Mapping[str, Path]
    commit: str
    sha256: Mapping[str, str] | None
    tokenizer: Path | None = None
    vocabulary: str = ""

    @property
    def folder(self) -> Path:
        """The folder that holds all of `paths`."""
        return next(iter(self.paths.values())).parent

    @property
    def weights(self) -> Path:
        """The file with the weights (of a sharded model, the first shard)."""
        return min(path for path in self.paths.values() if path.suffix in _WEIGHT_SUFFIXES)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(size_of(path) for path in self.paths.values())


def find(folder: RepoFolder, source: HubSource) -> WeightFiles | None:
    """Return the source's files if all are here with the sizes of the lock.

    Without a lock: if all are here that another program fetched as main.
    Raises MissingModelError if the lock is unusable.
    """
    lock = folder.lock()
    commit = lock.commit if lock else folder.main()
    names = source.choose(lock.files if lock else folder.names(commit)) if commit else None
    if not commit or not names:
        return None
    return _of_size(folder, lock, names) if lock else _files(folder, commit, names, None)


def find_all(folder: RepoFolder) -> WeightFiles | None:
    """Return all locked files if they are here with the sizes of the lock."""
    lock = folder.lock()
    if lock is None:
        return None
    return _of_size(folder, lock, tuple(lock.files))


def find_checked(folder: RepoFolder, source: HubSource) -> WeightFiles | None:
    """Return the source's files if they are locked and every hash is right, else None."""
    lock = folder.lock()
    names = source.choose(lock.files) if lock else None
    if not lock or not names or check(folder, source):
        return None
    return _files(folder, lock.commit, names, lock)


def check(folder: RepoFolder, source: HubSource) -> list[str]:
    """Return what is wrong with the source's files, read from end to end; empty if nothing is."""
    lock = folder.lock()
    if lock is None:
        if find(folder, source):
            return [f"{source.repo} was fetched by another program, so nothing is recorded to check it by"]
        return [f"{source.repo} is not on this machine"]
    names = source.choose(lock.files)
    if names is None:
        return [f"{source.repo} is not wholly on this machine"]
    told = (_compare(folder.file(lock.commit, name), lock.files[name]) for name in names)
    return [problem for problem in told if problem]


def _of_size(folder: RepoFolder, lock: Lock, names: tuple[str, ...]) -> WeightFiles | None:
    if any(size_of(folder.file(lock.commit, name)) != lock.files[name].size for name in names):
        return None
    return _files(folder, lock.commit, names, lock)


def _files(folder: RepoFolder, commit: str, names: tuple[str, ...], lock: Lock | None) -> WeightFiles:
    return WeightFiles(
        paths={name: folder.file(commit, name) for name in names},
        commit=commit,
        sha256={name: lock.files[name].sha256 for name in names} if lock else None,
    )


def _compare(path: Path, locked: LockedFile) -> str | None:
    try:
        actual = sha256_of(path)
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read: {error}"
    if actual == locked.sha256:
        return None
    return f"{path} is not what was downloaded: its sha256 is {actual}, the lock file says {locked.sha256}"
