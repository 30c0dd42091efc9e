"""Where 16-bit tower files are stored; they are written atomically and under a process lock.

A tower file is a cache: a failure to write it is logged and never fails a run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipmod_cli.models.backend import OF_OPEN_CLIP, ModelSpec
from clipmod_cli.models.hub.files import size_of
from clipmod_cli.models.hub.weights import WeightFiles

if TYPE_CHECKING:  # the command line needs sizes only, and torch takes seconds to import
    import torch

    from clipmod_cli.models.tower.tower_file import TowerInfo

log = logging.getLogger(__name__)

RESERVED_BYTES = 512 * 10**6
"""Left free on the disk."""

FORMAT = 1
"""Version of the files and of their tensors' names, part of the file name."""

MAX_FOLDER_TOWERS = 8
"""Towers of the user's own folders; each change of their weights adds one of up to 2 GB. The least recently
used are evicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerLocation:
    """Where one tower file is stored.

    Attributes:
        lock_path: the process lock of writers.
        max_towers: in the folder; None for a folder that belongs to one revision.
    """

    path: Path
    lock_path: Path
    max_towers: int | None = None


def location_in_cache(spec: ModelSpec, files: WeightFiles) -> TowerLocation:
    """Return the location for a downloaded model, beside its weights."""
    repo = files.folder.parent.parent
    return TowerLocation(
        path=repo / "clipmod" / files.commit / f"{spec.arch}--{spec.tag}.v{FORMAT}.safetensors",
        lock_path=repo.parent / ".locks" / repo.name / "clipmod.lock",
    )


def location_for_folder(revision: str) -> TowerLocation:
    """Return the location for a folder of the user's with these weights, in the user's cache."""
    from platformdirs import user_cache_path

    folder = user_cache_path("clipmod", appauthor=False) / "towers"
    return TowerLocation(
        path=folder / f"{revision}.v{FORMAT}.safetensors",
        lock_path=folder / "towers.lock",
        max_towers=MAX_FOLDER_TOWERS,
    )


def tower_size(spec: ModelSpec, files: WeightFiles | None) -> int | None:
    """Return the bytes of a downloaded model's tower file; None if it has none."""
    if files is None or spec.backend.prefix not in OF_OPEN_CLIP or spec.path is not None:
        return None
    return size_of(location_in_cache(spec, files).path) or None


def store(location: TowerLocation, info: TowerInfo, state: Mapping[str, torch.Tensor], *, wait: bool) -> bool:
    """Write a tower file; return whether that worked.

    Args:
        location: of the file.
        info: the file's metadata.
        state: the tensors as the file stores them.
        wait: for another process that writes or downloads there; otherwise return False.
    """
    from filelock import FileLock, Timeout

    try:
        location.lock_path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(location.lock_path, timeout=-1 if wait else 0):
            _replace(location, info, state)
    except Timeout:
        log.debug("%s is locked by another process", location.lock_path)
        return False
    except OSError as e:
        level = logging.WARNING if info.whole else logging.DEBUG
        log.log(
            level,
            "cannot write the 16-bit tower %s (%s): each start converts the weights again",
            location.path,
            e,
        )
        return False
    return True


def mark_used(location: TowerLocation) -> None:
    """Update the file's time, by which the least recently used are evicted."""
    if location.max_towers is not None:
        with contextlib.suppress(OSError):
            os.utime(location.path)


def _replace(location: TowerLocation, info: TowerInfo, state: Mapping[str, torch.Tensor]) -> None:
    from clipmod_cli.models.tower import tower_file

    folder = location.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    for abandoned in folder.glob(".*.tmp"):
        abandoned.unlink(missing_ok=True)
    needed = sum(tensor.numel() * tensor.dtype.itemsize for tensor in state.values())
    free = shutil.disk_usage(folder).free
    if needed and needed + RESERVED_BYTES > free:
        raise OSError(f"it needs {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free")
    temporary = location.path.with_name(f".{location.path.name}.{os.getpid()}.tmp")
    try:
        tower_file.write(temporary, info, state)
        temporary.replace(location.path)
    finally:
        temporary.unlink(missing_ok=True)
    if location.max_towers is not None:
        _evict(location.path, location.max_towers)


def _evict(newest: Path, max_towers: int) -> None:
    others = [path for path in newest.parent.glob("*.safetensors") if path != newest and size_of(path)]
    by_use = sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_use[max_towers - 1 :]:
        path.unlink(missing_ok=True)
