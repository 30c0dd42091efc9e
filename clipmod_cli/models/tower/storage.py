"""Putting a tower's file into its place: under a lock, whole or not at all, and only where there is room.

Nothing here may fail a run: a tower that cannot be kept costs time at each start, never a result.
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

from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.hub.cache import size_of
from clipmod_cli.models.hub.weights import WeightFiles

if TYPE_CHECKING:  # this module is also asked for sizes alone, and torch takes seconds to import
    import torch

    from clipmod_cli.models.tower.tower_file import TowerInfo

log = logging.getLogger(__name__)

SPARE_BYTES = 512 * 10**6
"""Left free on the disk: what makes the next start faster is not worth a full one."""


def keep(
    place: TowerLocation | None, about: TowerInfo, state: Mapping[str, torch.Tensor], *, wait: bool
) -> bool:
    """Write a tower's file; return whether it is there now.

    Args:
        place: where; None for nowhere.
        about: what is said of it.
        state: its tensors, as the file holds them.
        wait: for whoever writes or downloads in the same place; else it is left to them.
    """
    from filelock import FileLock, Timeout

    if place is None:
        return False
    try:
        place.guard.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.guard, timeout=-1 if wait else 0):
            _replace(place, about, state)
    except Timeout:
        log.debug("%s is held by another process", place.guard)
        return False
    except OSError as e:
        say = log.warning if about.whole else log.debug
        say("the 16-bit tower cannot be kept in %s, so each start reads the weights anew: %s", place.path, e)
        return False
    return True


def touch(place: TowerLocation) -> None:
    """Note that a tower was used, where the least used one goes first."""
    if place.most is not None:
        with contextlib.suppress(OSError):
            os.utime(place.path)


def _replace(place: TowerLocation, about: TowerInfo, state: Mapping[str, torch.Tensor]) -> None:
    from clipmod_cli.models.tower import tower_file

    folder = place.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)
    needed = sum(tensor.numel() * tensor.dtype.itemsize for tensor in state.values())
    free = shutil.disk_usage(folder).free
    if needed and needed + SPARE_BYTES > free:
        raise OSError(f"it takes {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free")
    fresh = place.path.with_name(f".{place.path.name}.{os.getpid()}.tmp")
    try:
        tower_file.write(fresh, about, state)
        fresh.replace(place.path)
    finally:
        fresh.unlink(missing_ok=True)
    if place.most is not None:
        _let_go(place.path, place.most)


def _let_go(newest: Path, most: int) -> None:
    """Delete the towers that were not used for longest."""
    others = [path for path in newest.parent.glob("*.safetensors") if path != newest and size_of(path)]
    by_use = sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_use[most - 1 :]:
        path.unlink(missing_ok=True)


FORMAT = 1
"""Of the files and of their tensors' names. One of another format has another name and is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerLocation:
    """One tower's file.

    Attributes:
        guard: the file that whoever writes holds a lock on.
        most: how many towers may be in the folder, None where something else bounds them.
    """

    path: Path
    guard: Path
    most: int | None = None


MOST_OF_FOLDERS = 8
"""Towers of the user's own folders: each change of their weights is another revision, of up to 2 GB."""


def own_folder() -> Path:
    """Return where the towers of the user's own folders are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("clipmod", appauthor=False) / "towers"


def location_in_cache(spec: ModelSpec, files: WeightFiles) -> TowerLocation:
    """Return where the tower of a downloaded model is kept."""
    repo = files.folder.parent.parent
    return TowerLocation(
        path=repo / "clipmod" / files.commit / f"{spec.arch}--{spec.tag}.v{FORMAT}.safetensors",
        guard=repo.parent / ".locks" / repo.name / "clipmod.lock",
    )


def tower_size(spec: ModelSpec, files: WeightFiles | None) -> int | None:
    """Return the bytes of a downloaded model's tower; None if it has none."""
    if files is None or spec.backend.prefix != "open_clip" or spec.path is not None:
        return None
    return size_of(location_in_cache(spec, files).path) or None


def location_for_folder(revision: str) -> TowerLocation:
    """Return where the tower of a folder with these weights is kept."""
    folder = own_folder()
    return TowerLocation(
        path=folder / f"{revision}.v{FORMAT}.safetensors", guard=folder / "towers.lock", most=MOST_OF_FOLDERS
    )
