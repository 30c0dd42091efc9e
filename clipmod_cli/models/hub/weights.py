"""Finding, downloading and verifying the files of a model.

    locate     what is on this machine, without a network and without reading it
    download   bring what is missing, check every file, write the lock
    verify     read every file again and compare it with the lock
    downloaded what was downloaded before

The first download asks the hub for the commit and the hashes, and writes them to a
lock file beside the weights; from then on that commit and those hashes are what is
taken. Loads no model: that is the backends' business.
"""

from __future__ import annotations

from dataclasses import replace

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.cache import RepoFolder
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.hub.install import install
from clipmod_cli.models.hub.installed import WeightFiles, check, find, find_all
from clipmod_cli.models.hub.local_files import local_files, local_problems
from clipmod_cli.models.hub.progress import SILENT, DownloadProgress
from clipmod_cli.models.hub.sources import HubSource, sources
from clipmod_cli.models.specs import ModelSpec

__all__ = ["SILENT", "DownloadProgress", "Hub", "WeightFiles", "download", "downloaded", "locate", "verify"]


def locate(spec: ModelSpec, *, hub: Hub | None = None) -> WeightFiles | None:
    """Return the model's files if all are on this machine, else None.

    With a lock, only its commit counts; without one, whatever another tool fetched
    as main. Sizes are compared with the lock, contents are not (`verify`).

    Raises:
        MissingModelError: there is a lock, but it cannot be read.
        SpecError: open_clip does not know this model.
    """
    wanted = sources(spec)
    if not wanted:
        paths = local_files(spec)
        return WeightFiles(paths=paths, commit="", sha256=None) if paths else None
    cache_dir = (hub or Hub.of_environment()).cache_dir
    found = [find(RepoFolder(cache_dir, source.repo), source) for source in wanted]
    return _join([files for files in found if files], wanted)


def download(
    spec: ModelSpec, *, hub: Hub | None = None, offline: bool = False, progress: DownloadProgress = SILENT
) -> WeightFiles:
    """Return the model's files, every one checked; fetch those that are missing or damaged.

    Raises:
        MissingModelError: they could not be had; says why and what to do instead.
        SpecError: open_clip does not know this model.
    """
    hub = hub or Hub.of_environment(offline=offline)
    hub = replace(hub, offline=hub.offline or offline)
    wanted = sources(spec)
    if not wanted:
        paths = local_files(spec)
        if not paths:
            raise MissingModelError("; ".join(local_problems(spec)))
        return WeightFiles(paths=paths, commit="", sha256=None)
    try:
        found = [install(source, spec, hub, progress) for source in wanted]
    except OSError as error:
        raise MissingModelError(
            f"the weights of {spec.spec} cannot be kept in {hub.cache_dir}: {error}; "
            "mend that, or set HF_HOME to a folder that can be written"
        ) from error
    files = _join(found, wanted)
    assert files is not None  # noqa: S101 - one for each source
    return files


def verify(spec: ModelSpec, *, hub: Hub | None = None) -> list[str]:
    """Return what is wrong with the model's files, read again from end to end; empty if nothing is.

    Raises:
        SpecError: open_clip does not know this model.
    """
    wanted = sources(spec)
    if not wanted:
        return local_problems(spec)
    cache_dir = (hub or Hub.of_environment()).cache_dir
    problems = []
    for source in wanted:
        try:
            problems += check(RepoFolder(cache_dir, source.repo), source)
        except MissingModelError as error:
            problems.append(str(error))
    return problems


def downloaded(hub: Hub) -> dict[str, WeightFiles | None]:
    """Return every model that was downloaded into this cache, by spec; None if it is not whole now.

    Knows only what the lock files say, so that it does not need open_clip.

    Raises:
        MissingModelError: a lock file cannot be read.
    """
    models: dict[str, WeightFiles | None] = {}
    for path in sorted(hub.cache_dir.glob("models--*")):
        folder = RepoFolder(hub.cache_dir, path.name.removeprefix("models--").replace("--", "/"))
        lock = folder.lock()
        files = find_all(folder) if lock else None
        for spec in lock.specs if lock else ():
            first = models.get(spec, files)
            models[spec] = first if files else None
    return dict(sorted(models.items()))


def _join(found: list[WeightFiles], wanted: tuple[HubSource, ...]) -> WeightFiles | None:
    """Put a model's weights and its vocabulary together; None if a source is missing."""
    if len(found) != len(wanted):
        return None
    if not wanted[-1].welcome:
        return found[0]
    return replace(found[0], tokenizer=found[-1].folder, vocabulary=found[-1].commit)
