"""Downloading a model: what is missing or damaged is fetched, verified and recorded in the lock file.

The first download asks the hub for commit and checksums and writes them to a lock file beside the weights;
later ones take that commit and those checksums only. HTTP transfer is `hub.fetch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.backend import ModelSpec, human_size
from clipmod_cli.models.hub.cache import RepoFolder
from clipmod_cli.models.hub.client import SILENT, DownloadProgress, Hub, HubFile, fetch_repo_state
from clipmod_cli.models.hub.fetch import fetch
from clipmod_cli.models.hub.files import git_id_of, sha256_of, size_of
from clipmod_cli.models.hub.lock import LockedFile, LockFile, write_lock
from clipmod_cli.models.hub.sources import HubSource
from clipmod_cli.models.hub.weights import (
    WeightFiles,
    join_sources,
    locate_local,
    locate_source,
    verify_source,
)

_RESERVED_BYTES = 64 * 10**6
# Left free on the disk.


def download(
    spec: ModelSpec, *, hub: Hub | None = None, offline: bool = False, progress: DownloadProgress = SILENT
) -> WeightFiles:
    """Return the model's files, all verified; fetch those that are missing or damaged.

    Raises:
        MissingModelError: a file is not available; says why and what to do instead.
        SpecError: open_clip does not know this model.
    """
    hub = hub or Hub.from_environment()
    hub = replace(hub, offline=hub.offline or offline)
    sources = tuple(spec.backend.sources(spec))
    if not sources:
        files = locate_local(spec)
        if files is None:
            raise MissingModelError("; ".join(spec.backend.local_problems(spec)))
        return files
    try:
        found = [_SourceDownload(source, spec, hub, progress).run() for source in sources]
    except OSError as error:
        raise MissingModelError(
            f"cannot write the weights of {spec.spec} to {hub.cache_dir}: {error}; set HF_HOME to a folder "
            "that can be written"
        ) from error
    joined = join_sources(found, sources)
    assert joined is not None  # noqa: S101 - one for each source
    return joined


@dataclass(frozen=True, slots=True)
class _SourceDownload:
    source: HubSource
    spec: ModelSpec
    hub: Hub
    progress: DownloadProgress

    @property
    def folder(self) -> RepoFolder:
        return RepoFolder(self.hub.cache_dir, self.source.repo)

    def run(self) -> WeightFiles:
        problems = verify_source(self.folder, self.source)
        if problems and not self.hub.offline:
            with self.folder.exclusive(self.progress.say):
                self._update()
        files = locate_source(self.folder, self.source)
        if self.hub.offline and problems and (files is None or files.sha256 is not None):
            # what another program fetched is used offline, though it cannot be verified
            raise MissingModelError(
                f"{self.spec.spec} cannot be used offline: {'; '.join(problems)}. Run `clipmod models "
                f"download {self.spec.spec}` with neither --offline nor HF_HUB_OFFLINE, or copy "
                f"{self.folder.path} from a machine that has it"
            )
        if files is None:
            raise MissingModelError(
                f"{self.folder.path} was changed by another program meanwhile; download again"
            )
        return files

    def _update(self) -> None:
        """Fetch what is missing and write the lock file."""
        lock, present = self.folder.lock(), locate_source(self.folder, self.source)
        found = present.commit if present else None
        commit = lock.commit if lock else self.source.commit or found
        state = fetch_repo_state(self.hub, self.source.repo, commit)
        names = self.source.select(state.files)
        if names is None:
            raise MissingModelError(
                f"{self.source.repo} cannot be used for {self.spec.spec}: it lacks {self.source.describe()}"
            )
        files = [state.files[name] for name in names]
        for file in files:
            self._check_lock(lock, file)
            self._check_known(state.commit, file)
        missing = [f for f in files if _mismatch(self.folder.file(state.commit, f.name), f, lock)]
        self._check_space(missing)
        for file in missing:
            self._install(state.commit, file, lock)
        write_lock(self.folder.lock_path, self._new_lock(state.commit, files, lock))
        if commit is None:
            self.folder.set_main_commit(state.commit)

    def _check_known(self, commit: str, file: HubFile) -> None:
        known = self.source.sha256.get(file.name)
        if known and file.sha256 != known:
            raise MissingModelError(
                f"{file.name} of {self.source.repo} at commit {commit} is not the file that {self.spec.spec} "
                f"is made of: its sha256 is {file.sha256}, not {known}. Nothing was fetched. If it is an "
                f"older or newer one, delete {self.folder.path} and download again"
            )

    def _check_lock(self, lock: LockFile | None, file: HubFile) -> None:
        locked = lock.files.get(file.name) if lock else None
        if lock and locked and file.sha256 and file.sha256 != locked.sha256:
            raise MissingModelError(
                f"the hub now says that {file.name} of {self.source.repo} has sha256 {file.sha256} at commit "
                f"{lock.commit}, but the lock file has {locked.sha256}: one of them was tampered with, and "
                "nothing was fetched"
            )

    def _check_space(self, files: Sequence[HubFile]) -> None:
        needed = sum(max(0, file.size - size_of(self.folder.partial(file.etag))) for file in files)
        free = self.hub.free_space(self.folder.path)
        if files and needed + _RESERVED_BYTES > free:
            raise MissingModelError(
                f"{self.spec.spec} needs {needed / 1e9:.2f} GB in {self.hub.cache_dir}, but only "
                f"{free / 1e9:.2f} GB are free there: make room, or set HF_HOME to a folder on a larger disk"
            )

    def _install(self, commit: str, file: HubFile, lock: LockFile | None) -> None:
        blob = self.folder.blob(file.etag)
        if _mismatch(blob, file, lock):
            if self.folder.file(commit, file.name).exists():
                self.progress.say(f"{file.name} of {self.source.repo} is damaged; downloading it again")
            self.folder.remove(commit, file.name)
            blob.unlink(missing_ok=True)
            partial = self.folder.partial(file.etag)
            self._fetch_verified(commit, file, lock, partial)
            partial.replace(blob)
        self.folder.link(file.etag, commit, file.name)

    def _fetch_verified(self, commit: str, file: HubFile, lock: LockFile | None, partial: Path) -> None:
        resumed = size_of(partial) > 0
        self.progress.say(f"downloading {file.name} of {self.source.repo} ({human_size(file.size)})")
        fetch(self.hub, self.source.repo, commit, file, partial, self.progress)
        problem = _mismatch(partial, file, lock)
        if problem and resumed:
            partial.unlink()
            self.progress.say(f"the partial download of {file.name} was damaged; downloading it again")
            fetch(self.hub, self.source.repo, commit, file, partial, self.progress)
            problem = _mismatch(partial, file, lock)
        if problem:
            partial.unlink()
            raise MissingModelError(
                f"{file.name} of {self.source.repo} arrived damaged or was tampered with: {problem}. The "
                "bad file was removed. Try again; if it fails again, use another network or set "
                "HF_ENDPOINT to another mirror"
            )

    def _new_lock(self, commit: str, files: Sequence[HubFile], old: LockFile | None) -> LockFile:
        fresh = {
            file.name: LockedFile(
                sha256=file.sha256 or sha256_of(self.folder.file(commit, file.name)), size=file.size
            )
            for file in files
        }
        return LockFile(
            clipmod_lock=1,
            repo=self.source.repo,
            commit=commit,
            files=dict(sorted({**(old.files if old else {}), **fresh}.items())),
            specs=tuple(sorted({*(old.specs if old else ()), self.spec.spec})),
        )


def _mismatch(path: Path, file: HubFile, lock: LockFile | None) -> str | None:
    """Return how the file at `path` differs from what the lock file or the hub says; None if it does not."""
    if not path.is_file() or path.stat().st_size != file.size:
        return f"it has {size_of(path)} bytes instead of {file.size}"
    actual = sha256_of(path)
    locked = lock.files.get(file.name) if lock else None
    expected = locked.sha256 if locked else file.sha256
    if expected and actual != expected:
        return f"expected sha256 {expected}, actual {actual}"
    if file.git_id and (git_id := git_id_of(path)) != file.git_id:
        return f"expected git id {file.git_id}, actual {git_id}"
    return None
