"""Models that need no hub: folders of the user's own, and the detector in the nudenet package."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from clipmod_cli.errors import MissingPackageError
from clipmod_cli.models.hub.cache import sha256_of, size_of
from clipmod_cli.models.hub.sources import TOKENIZER_FILES, hf_source
from clipmod_cli.models.specs import ModelSpec

_OPEN_CLIP_CONFIG = "open_clip_config.json"


def local_files(spec: ModelSpec) -> Mapping[str, Path] | None:
    """Return the files of such a model by name; None if some are missing."""
    if spec.kind == "nudenet":
        return _detector()
    names = _names(spec.path) if spec.path else frozenset()
    chosen = _choose_open_clip(names) if spec.kind == "open_clip_dir" else hf_source("").choose(names)
    return {name: Path(spec.path or "") / name for name in chosen} if chosen else None


def local_problems(spec: ModelSpec) -> list[str]:
    """Return what is wrong with such a model's files; empty if nothing is, as far as can be told."""
    files = local_files(spec)
    if spec.kind == "nudenet":
        return _detector_problems(files)
    if files:
        return []
    if not spec.path or not spec.path.is_dir():
        return [f"{spec.spec}: there is no folder {spec.path}"]
    if spec.kind == "open_clip_dir":
        return [f"{spec.path} has to hold {_OPEN_CLIP_CONFIG} and exactly one .safetensors file"]
    return [f"{spec.path} lacks {hf_source('').describe()}"]


def _names(folder: Path) -> frozenset[str]:
    if not folder.is_dir():
        return frozenset()
    return frozenset(entry.name for entry in folder.iterdir() if entry.is_file() and size_of(entry))


def _choose_open_clip(names: frozenset[str]) -> tuple[str, ...]:
    weights = [name for name in names if name.endswith(".safetensors")]
    if _OPEN_CLIP_CONFIG not in names or len(weights) != 1:
        return ()
    return (_OPEN_CLIP_CONFIG, *weights, *(name for name in TOKENIZER_FILES if name in names))


def _detector() -> Mapping[str, Path] | None:
    from clipmod_cli.models.nudenet import model_path

    try:
        path = model_path()
    except MissingPackageError:
        return None
    return {path.name: path}


def _detector_problems(files: Mapping[str, Path] | None) -> list[str]:
    """Compare the detector's file with the hash that its package was installed with."""
    from importlib.metadata import files as installed_files

    if not files:
        return ["the nudenet package is not installed: pip install nudenet onnxruntime"]
    (path,) = files.values()
    recorded = next((f.hash for f in installed_files("nudenet") or () if f.name == path.name), None)
    if recorded is None or recorded.mode != "sha256":
        return [f"the nudenet package does not record a sha256 of {path}, so it cannot be checked"]
    expected = base64.urlsafe_b64decode(recorded.value + "=").hex()
    if (actual := sha256_of(path)) == expected:
        return []
    return [f"{path} is not what was installed: its sha256 is {actual}, its package says {expected}"]
