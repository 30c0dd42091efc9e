"""Identifies an open_clip model: an architecture, its weights file and its revision. Loads nothing.

Weights are verified here before they are read, since towers and text embeddings are cached by revision.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.hub.files import cached_sha256
from clipmod_cli.models.hub.weights import WeightFiles
from clipmod_cli.models.tower.storage import TowerLocation, location_for_folder, location_in_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClipSource:
    """An open_clip model.

    Attributes:
        model_name: for `create_model` and `get_tokenizer`.
        tag: open_clip's name of the weights, with preprocessing and activation; None for a folder.
        weights: the checkpoint file.
        revision: sha256 over weights, configuration and preprocessing.
        location: of the 16-bit tower file.
        sha256: of the weights when they were downloaded or found.
        repair: what the user can do if the weights were changed since.
        tokenizer: the folder of a vocabulary that open_clip does not include.
    """

    model_name: str
    tag: str | None
    weights: Path
    revision: str
    location: TowerLocation
    sha256: str
    repair: str
    tokenizer: Path | None = None


def source_of(spec: ModelSpec, files: WeightFiles) -> OpenClipSource:
    """Return the source of a model on this machine; nothing is written to a folder of the user's.

    Raises:
        MissingModelError: a file cannot be read.
    """
    return _folder_source(spec.path, files) if spec.path else _tag_source(spec, files)


def _tag_source(spec: ModelSpec, files: WeightFiles) -> OpenClipSource:
    weights = files.weights
    # files without a lock file are identified by their current sha256
    hashes = sorted((files.sha256 or {weights.name: _hash(weights)}).items())
    tokenizer = [files.tokenizer_commit] if files.tokenizer_commit else []
    identity = json.dumps([spec.spec, files.commit, weights.name, hashes, *tokenizer])
    return OpenClipSource(
        model_name=str(spec.arch),
        tag=spec.tag,
        weights=weights,
        revision=hashlib.sha256(identity.encode()).hexdigest(),
        location=location_in_cache(spec, files),
        tokenizer=files.tokenizer,
        repair=f"run `clipmod models download {spec.spec}`",
        sha256=dict(hashes)[weights.name],
    )


def _folder_source(folder: Path, files: WeightFiles) -> OpenClipSource:
    weights = files.weights
    sha256 = _hash(weights)
    try:
        config = files.paths["open_clip_config.json"].read_bytes()
    except OSError as e:
        raise MissingModelError(f"{folder}: open_clip_config.json cannot be read: {e}") from e
    revision = hashlib.sha256(config + bytes.fromhex(sha256)).hexdigest()
    return OpenClipSource(
        model_name=f"local-dir:{folder}",
        tag=None,
        weights=weights,
        revision=revision,
        location=location_for_folder(revision),
        repair="start again",
        sha256=sha256,
    )


def check_weights(source: OpenClipSource) -> None:
    """Verify the weights against the source's sha256, which is cached until the file changes.

    Raises:
        MissingModelError: they differ, or cannot be read.
    """
    actual = _hash(source.weights)
    if actual != source.sha256:
        raise MissingModelError(
            f"{source.weights} is damaged or was changed: its sha256 is {actual} instead of {source.sha256}; "
            f"{source.repair}"
        )


def _hash(weights: Path) -> str:
    try:
        return cached_sha256(weights)
    except OSError as e:
        raise MissingModelError(f"{weights} cannot be read: {e}") from e
