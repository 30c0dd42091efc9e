"""One source from the hub into the cache: fetched, checked, locked.

What may be wrong with what comes is found here: a hash that differs from what the
hub announced or from what the lock says, a disk that is too small, a repository
without the files. The transport is `clipmod_cli.models.hub.download`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.cache import RepoFolder, git_id_of, sha256_of, size_of
from clipmod_cli.models.hub.client import Hub, HubFile, ask
from clipmod_cli.models.hub.download import fetch
from clipmod_cli.models.hub.installed import WeightFiles, check, find, find_checked
from clipmod_cli.models.hub.lock import Lock, LockedFile
from clipmod_cli.models.hub.progress import DownloadProgress
from clipmod_cli.models.hub.sources import HubSource
from clipmod_cli.models.registry import human_size
from clipmod_cli.models.specs import ModelSpec

_SPARE_BYTES = 64 * 10**6
# Left free on the disk, so that a download is not what fills it to the last byte.


def install(source: HubSource, spec: ModelSpec, hub: Hub, progress: DownloadProgress) -> WeightFiles:
    """Return the source's files, every one checked; what is missing or damaged is fetched.

    Raises:
        MissingModelError: they could not be had.
        OSError: the cache cannot be written.
    """
    folder = RepoFolder(hub.cache_dir, source.repo)
    checked = find_checked(folder, source)
    if checked:
        return checked
    if hub.offline:
        return _offline(folder, source, spec)
    with folder.held(progress):
        _update(folder, source, spec, hub, progress)
    files = find(folder, source)
    if files is None:
        raise MissingModelError(f"{folder.path} was changed by another program meanwhile; download again")
    return files


def _offline(folder: RepoFolder, source: HubSource, spec: ModelSpec) -> WeightFiles:
    files = find(folder, source)
    if files and files.sha256 is None:
        return files  # fetched by another program; there is nothing to check it by
    raise MissingModelError(
        f"{spec.spec} cannot be used offline: {'; '.join(check(folder, source))}. Run `clipmod models "
        f"download {spec.spec}` with neither --offline nor HF_HUB_OFFLINE, or copy {folder.path} from a "
        "machine that has it"
    )


def _update(
    folder: RepoFolder, source: HubSource, spec: ModelSpec, hub: Hub, progress: DownloadProgress
) -> None:
    """Fetch what is missing and write the lock."""
    lock, here = folder.lock(), find(folder, source)
    commit = lock.commit if lock else here.commit if here else None
    state = ask(hub, source.repo, commit)
    names = source.choose(state.files)
    if names is None:
        raise MissingModelError(f"{source.repo} cannot be used for {spec.spec}: it lacks {source.describe()}")
    files = [state.files[name] for name in names]
    for file in files:
        _hold_to(lock, file, source.repo)
    wanting = [f for f in files if _wrong(folder.file(state.commit, f.name), f, lock)]
    _check_space(folder, wanting, spec, hub)
    for file in wanting:
        _get(folder, state.commit, file, lock, hub, progress)
    folder.write_lock(_lock_of(folder, state.commit, files, lock, spec))
    if commit is None:
        folder.set_main(state.commit)


def _hold_to(lock: Lock | None, file: HubFile, repo: str) -> None:
    locked = lock.files.get(file.name) if lock else None
    if lock and locked and file.sha256 and file.sha256 != locked.sha256:
        raise MissingModelError(
            f"the hub now says that {file.name} of {repo} has the sha256 {file.sha256} at commit "
            f"{lock.commit}, but the lock file says {locked.sha256}: one of them was tampered with, and "
            "nothing was fetched"
        )


def _check_space(folder: RepoFolder, files: Sequence[HubFile], spec: ModelSpec, hub: Hub) -> None:
    needed = sum(max(0, file.size - size_of(folder.partial(file.etag))) for file in files)
    free = hub.free_space(folder.path)
    if files and needed + _SPARE_BYTES > free:
        raise MissingModelError(
            f"{spec.spec} needs {needed / 1e9:.2f} GB in {hub.cache_dir}, but only {free / 1e9:.2f} GB are "
            "free there: make room, or set HF_HOME to a folder on a larger disk"
        )


def _get(
    folder: RepoFolder, commit: str, file: HubFile, lock: Lock | None, hub: Hub, progress: DownloadProgress
) -> None:
    """Put one good file into its place."""
    blob = folder.blob(file.etag)
    if _wrong(blob, file, lock):
        if folder.file(commit, file.name).exists():
            progress.say(f"{file.name} of {folder.repo} is damaged; fetching it again")
        folder.remove(commit, file.name)
        blob.unlink(missing_ok=True)
        _fetch_good(folder, commit, file, lock, hub, progress)
        folder.partial(file.etag).replace(blob)
    folder.place(file.etag, commit, file.name)


def _fetch_good(
    folder: RepoFolder, commit: str, file: HubFile, lock: Lock | None, hub: Hub, progress: DownloadProgress
) -> None:
    """Fetch a file into its partial file and check it; a bad one is removed."""
    partial = folder.partial(file.etag)
    resumed = size_of(partial) > 0
    progress.say(f"downloading {file.name} of {folder.repo} ({human_size(file.size)})")
    fetch(hub, folder.repo, commit, file, partial, progress)
    wrong = _wrong(partial, file, lock)
    if wrong and resumed:
        partial.unlink()
        progress.say(f"what an earlier try left of {file.name} was damaged; fetching it anew")
        fetch(hub, folder.repo, commit, file, partial, progress)
        wrong = _wrong(partial, file, lock)
    if wrong:
        partial.unlink()
        raise MissingModelError(
            f"{file.name} of {folder.repo} came damaged or was tampered with: {wrong}. The bad file was "
            "removed. Try again; if it stays so, try another network or mirror (HF_ENDPOINT)"
        )


def _wrong(path: Path, file: HubFile, lock: Lock | None) -> str | None:
    """Return how the file at `path` differs from what it has to be; None if it does not."""
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


def _lock_of(
    folder: RepoFolder, commit: str, files: Sequence[HubFile], old: Lock | None, spec: ModelSpec
) -> Lock:
    fresh = {
        file.name: LockedFile(sha256=file.sha256 or sha256_of(folder.file(commit, file.name)), size=file.size)
        for file in files
    }
    return Lock(
        repo=folder.repo,
        commit=commit,
        files={**(old.files if old else {}), **fresh},
        specs=tuple(sorted({*(old.specs if old else ()), spec.spec})),
    )
