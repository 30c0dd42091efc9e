"""Where the 16-bit towers are kept: beside the weights in the hub's cache, or in the user's own cache.

    models--OWNER--NAME/clipmod/COMMIT/ARCH--TAG.v1.safetensors
    ~/.cache/clipmod/towers/REVISION.v1.safetensors     of a folder of the user's own, which is not written to

Knows names only and imports nothing heavy; what is in such a file is `clipmod_cli.models.tower_files`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipmod_cli.models.cache import size_of
from clipmod_cli.models.kept import WeightFiles
from clipmod_cli.models.specs import ModelSpec

FORMAT = 1
"""Of the files and of their tensors' names. One of another format has another name and is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerPlace:
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


def cache_place(spec: ModelSpec, files: WeightFiles) -> TowerPlace:
    """Return where the tower of a downloaded model is kept."""
    repo = files.folder.parent.parent
    return TowerPlace(
        path=repo / "clipmod" / files.commit / f"{spec.arch}--{spec.tag}.v{FORMAT}.safetensors",
        guard=repo.parent / ".locks" / repo.name / "clipmod.lock",
    )


def tower_size(spec: ModelSpec, files: WeightFiles | None) -> int | None:
    """Return the bytes of a downloaded model's tower; None if it has none."""
    if files is None or spec.kind != "open_clip":
        return None
    return size_of(cache_place(spec, files).path) or None


def folder_place(revision: str) -> TowerPlace:
    """Return where the tower of a folder with these weights is kept."""
    folder = own_folder()
    return TowerPlace(
        path=folder / f"{revision}.v{FORMAT}.safetensors", guard=folder / "towers.lock", most=MOST_OF_FOLDERS
    )
