"""Files of models outside the hub: the user's own folders, and the detector in the nudenet package."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from clipmod_cli.errors import MissingPackageError
from clipmod_cli.models.hub.cache import size_of
from clipmod_cli.models.hub.checksums import sha256_of
from clipmod_cli.models.hub.sources import TOKENIZER_FILES, hf_source
from clipmod_cli.models.specs import ModelSpec

_OPEN_CLIP_CONFIG = "open_clip_config.json"


def local_files(spec: ModelSpec) -> Mapping[str, Path] | None:
    """Return the model's files by name; None if some are missing."""
    if spec.kind == "nudenet":
        return _detector_files()
    names = _file_names(spec.path) if spec.path else frozenset()
    selected = _select_open_clip(names) if spec.kind == "open_clip_dir" else hf_source("").select(names)
    return {name: Path(spec.path or "") / name for name in selected} if selected else None


def local_problems(spec: ModelSpec) -> list[str]:
    """Return what is wrong with the model's files; the contents of a folder are not verified."""
    files = local_files(spec)
    if spec.kind == "nudenet":
        return _detector_problems(files)
    if files:
        return []
    if not spec.path or not spec.path.is_dir():
        return [f"{spec.spec}: there is no folder {spec.path}"]
    if spec.kind == "open_clip_dir":
        return [f"{spec.path} must hold {_OPEN_CLIP_CONFIG} and exactly one .safetensors file"]
    return [f"{spec.path} lacks {hf_source('').describe()}"]


def _file_names(folder: Path) -> frozenset[str]:
    if not folder.is_dir():
        return frozenset()
    return frozenset(entry.name for entry in folder.iterdir() if entry.is_file() and size_of(entry))


def _select_open_clip(names: frozenset[str]) -> tuple[str, ...]:
    weights = [name for name in names if name.endswith(".safetensors")]
    if _OPEN_CLIP_CONFIG not in names or len(weights) != 1:
        return ()
    return (_OPEN_CLIP_CONFIG, *weights, *(name for name in TOKENIZER_FILES if name in names))


def _detector_files() -> Mapping[str, Path] | None:
    from clipmod_cli.models.nudenet import model_path

    try:
        path = model_path()
    except MissingPackageError:
        return None
    return {path.name: path}


def _detector_problems(files: Mapping[str, Path] | None) -> list[str]:
    """Compare the detector's file with the checksum that its package was installed with."""
    from importlib.metadata import files as installed_files

    if not files:
        return ["the nudenet package is not installed: pip install nudenet onnxruntime"]
    (path,) = files.values()
    recorded = next((f.hash for f in installed_files("nudenet") or () if f.name == path.name), None)
    if recorded is None or recorded.mode != "sha256":
        return [f"{path} cannot be verified: the nudenet package records no sha256 of it"]
    expected = base64.urlsafe_b64decode(recorded.value + "=").hex()
    if (actual := sha256_of(path)) == expected:
        return []
    return [f"{path} was changed: its sha256 is {actual}, its package records {expected}"]
