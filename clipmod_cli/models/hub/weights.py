"""The files of a model on this machine: found by name and size, verified by checksum. No network.

    locate            the model's files, if all are downloaded
    verify            read every file and compare its sha256 with the lock file
    list_downloaded   all models in the cache

Loads no model (the backends) and fetches nothing (`hub.download`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.hub.cache import RepoFolder
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.hub.files import sha256_of, size_of
from clipmod_cli.models.hub.lock import LockedFile, LockFile
from clipmod_cli.models.hub.sources import HubSource

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """The files of a model on this machine.

    Attributes:
        paths: by name in the repository or folder; all in one folder.
        commit: of the repository; empty for the user's own folder and for files of a package.
        sha256: by name, from the lock file; None without a lock file.
        tokenizer: the folder with the vocabulary, for architectures that need one.
        tokenizer_commit: of the vocabulary's repository; empty without one.
    """

    paths: Mapping[str, Path]
    commit: str
    sha256: Mapping[str, str] | None
    tokenizer: Path | None = None
    tokenizer_commit: str = ""

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


def locate(spec: ModelSpec, *, hub: Hub | None = None) -> WeightFiles | None:
    """Return the model's files if all are on this machine, else None.

    With a lock file only its commit counts; without one, the main that another program fetched. Sizes are
    compared with the lock file, contents are not (`verify`).

    Raises:
        MissingModelError: there is a lock file, but it cannot be read.
        SpecError: open_clip does not know this model.
    """
    sources = tuple(spec.backend.sources(spec))
    if not sources:
        return locate_local(spec)
    cache_dir = (hub or Hub.from_environment()).cache_dir
    found = [locate_source(RepoFolder(cache_dir, source.repo), source) for source in sources]
    return join_sources([files for files in found if files], sources)


def locate_local(spec: ModelSpec) -> WeightFiles | None:
    """Return the files of a model that is not on the hub, if all exist, else None."""
    paths = spec.backend.local_files(spec)
    return WeightFiles(paths=paths, commit="", sha256=None) if paths else None


def locate_source(folder: RepoFolder, source: HubSource) -> WeightFiles | None:
    """Return the files of one source as `locate` does; raises MissingModelError if its lock is unusable."""
    lock = folder.lock()
    commit = lock.commit if lock else folder.main_commit()
    names = source.select(lock.files if lock else folder.file_names(commit)) if commit else None
    if not commit or not names:
        return None
    if lock:
        return _locate_locked(folder, lock, names)
    return WeightFiles(paths={name: folder.file(commit, name) for name in names}, commit=commit, sha256=None)


def join_sources(found: Sequence[WeightFiles], sources: Sequence[HubSource]) -> WeightFiles | None:
    """Return a model's weights together with its vocabulary; None if a source is missing."""
    if len(found) != len(sources):
        return None
    if not sources[-1].optional:
        return found[0]
    return replace(found[0], tokenizer=found[-1].folder, tokenizer_commit=found[-1].commit)


def verify(spec: ModelSpec, *, hub: Hub | None = None) -> list[str]:
    """Read the model's files; return what is wrong with them, empty if all match the lock file.

    Raises:
        SpecError: open_clip does not know this model.
    """
    sources = tuple(spec.backend.sources(spec))
    if not sources:
        return spec.backend.local_problems(spec)
    cache_dir = (hub or Hub.from_environment()).cache_dir
    problems = []
    for source in sources:
        try:
            problems += verify_source(RepoFolder(cache_dir, source.repo), source)
        except MissingModelError as error:
            problems.append(str(error))
    return problems


def verify_source(folder: RepoFolder, source: HubSource) -> list[str]:
    """Return what is wrong with the files of one source; raises MissingModelError for an unusable lock."""
    lock = folder.lock()
    if lock is None:
        if locate_source(folder, source):
            return [
                f"{source.repo} was fetched by another program: no checksums are recorded to verify it by"
            ]
        return [f"{source.repo} is not on this machine"]
    names = source.select(lock.files)
    if names is None:
        return [f"{source.repo} is incomplete: the lock file lacks {source.describe()}"]
    problems = (_verify_file(folder.file(lock.commit, name), lock.files[name]) for name in names)
    return [problem for problem in problems if problem] + _other_files(lock, source)


def _other_files(lock: LockFile, source: HubSource) -> list[str]:
    """Return a problem for each locked file that is another one than the model is made of."""
    return [
        f"the lock file of {source.repo} has another {name}: "
        f"its sha256 is {lock.files[name].sha256}, not {known}"
        for name, known in source.sha256.items()
        if lock.files[name].sha256 != known
    ]


def list_downloaded(hub: Hub) -> dict[str, WeightFiles | None]:
    """Return every model that was downloaded into this cache, by spec; None if files are missing now.

    Reads lock files only, so that it does not import open_clip.

    Raises:
        MissingModelError: a lock file cannot be read.
    """
    models: dict[str, WeightFiles | None] = {}
    for path in sorted(hub.cache_dir.glob("models--*")):
        folder = RepoFolder(hub.cache_dir, path.name.removeprefix("models--").replace("--", "/"))
        lock = folder.lock()
        files = _locate_locked(folder, lock, tuple(lock.files)) if lock else None
        for spec in lock.specs if lock else ():
            first = models.get(spec, files)
            models[spec] = first if files else None
    return dict(sorted(models.items()))


def _locate_locked(folder: RepoFolder, lock: LockFile, names: Sequence[str]) -> WeightFiles | None:
    """Return these files of a lock; None if one has another size or is missing."""
    paths = {name: folder.file(lock.commit, name) for name in names}
    if any(size_of(path) != lock.files[name].size for name, path in paths.items()):
        return None
    return WeightFiles(
        paths=paths, commit=lock.commit, sha256={name: lock.files[name].sha256 for name in names}
    )


def _verify_file(path: Path, locked: LockedFile) -> str | None:
    try:
        actual = sha256_of(path)
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read: {error}"
    if actual == locked.sha256:
        return None
    return f"{path} was changed: its sha256 is {actual}, the lock file has {locked.sha256}"
