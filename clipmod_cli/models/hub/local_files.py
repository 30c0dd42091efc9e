"""The files of models in the user's own folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.hub.cache import size_of
from clipmod_cli.models.hub.sources import TOKENIZER_FILES, hf_source

_OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_NEEDS = f"{_OPEN_CLIP_CONFIG} and exactly one .safetensors file"


def open_clip_files(folder: Path) -> Mapping[str, Path] | None:
    """Return the files of an open_clip model's folder by name; None if some are missing."""
    return _in_folder(folder, _select_open_clip(_file_names(folder)))


def hf_files(folder: Path) -> Mapping[str, Path] | None:
    """Return the files of a transformers model's folder by name; None if some are missing."""
    return _in_folder(folder, hf_source("").select(_file_names(folder)))


def folder_problems(spec: ModelSpec, files: Mapping[str, Path] | None, problem: str) -> list[str]:
    """Return what is wrong with a model's folder: `problem` if files are missing. Contents are not read."""
    if files:
        return []
    if not spec.path or not spec.path.is_dir():
        return [f"{spec.spec}: there is no folder {spec.path}"]
    return [f"{spec.path} {problem}"]


def _in_folder(folder: Path, names: Sequence[str] | None) -> Mapping[str, Path] | None:
    return {name: folder / name for name in names} if names else None


def _file_names(folder: Path) -> frozenset[str]:
    if not folder.is_dir():
        return frozenset()
    return frozenset(entry.name for entry in folder.iterdir() if entry.is_file() and size_of(entry))


def _select_open_clip(names: frozenset[str]) -> tuple[str, ...]:
    weights = [name for name in names if name.endswith(".safetensors")]
    if _OPEN_CLIP_CONFIG not in names or len(weights) != 1:
        return ()
    return (_OPEN_CLIP_CONFIG, *weights, *(name for name in TOKENIZER_FILES if name in names))
