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
from clipmod_cli.models.hub.checksums import cached_sha256, sha256_of
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
        location: of the 16-bit tower file; None to store none.
        tokenizer: the folder of a vocabulary that open_clip does not include.
        spec: of a model that can be downloaded; empty for a folder.
        sha256: of the weights when they were downloaded or found; None if they are not verified.
    """

    model_name: str
    tag: str | None
    weights: Path
    revision: str
    location: TowerLocation | None = None
    tokenizer: Path | None = None
    spec: str = ""
    sha256: str | None = None


def source_of(spec: ModelSpec, files: WeightFiles | None) -> OpenClipSource:
    """Return the source of a model on this machine, with caching of its hash and tower.

    `files` is None for a folder, which is read.

    Raises:
        MissingModelError: the folder is not an open_clip model.
    """
    if spec.path is not None:
        return folder_source(spec.path, caching=True)
    if files is None:
        raise ValueError(f"{spec.spec} is not a folder, so `files` is required")
    return tag_source(spec, files)


def tag_source(spec: ModelSpec, files: WeightFiles) -> OpenClipSource:
    """Return the source of an architecture and pretrained tag.

    Files without a lock file are identified by their current sha256.

    Raises:
        MissingModelError: the weights cannot be read.
    """
    weights = files.weights
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
        spec=spec.spec,
        sha256=dict(hashes)[weights.name],
    )


def check_weights(source: OpenClipSource) -> None:
    """Verify the weights against the source's sha256, which is cached until the file changes.

    Raises:
        MissingModelError: they differ, or cannot be read.
    """
    if source.sha256 is None:
        return
    actual = _hash(source.weights)
    if actual != source.sha256:
        repair = f"run `clipmod models download {source.spec}`" if source.spec else "start again"
        raise MissingModelError(
            f"{source.weights} is damaged or was changed: its sha256 is {actual} instead of {source.sha256}; "
            f"{repair}"
        )


def folder_source(folder: Path, *, caching: bool = False) -> OpenClipSource:
    """Return the source for a folder with `open_clip_config.json` and safetensors.

    Args:
        folder: the user's own; nothing is written to it.
        caching: store the file's hash, and later its tower, in the user's cache.

    Raises:
        MissingModelError: either is missing or cannot be read; open_clip itself would use random weights.
    """
    config = folder / "open_clip_config.json"
    if not config.is_file():
        raise MissingModelError(f"{folder} is not an open_clip model: it lacks open_clip_config.json")
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise MissingModelError(f"{folder} must hold exactly one .safetensors file; it holds {len(found)}")
    sha256 = _hash(found[0], cached=caching)
    revision = hashlib.sha256(config.read_bytes() + bytes.fromhex(sha256)).hexdigest()
    return OpenClipSource(
        model_name=f"local-dir:{folder}",
        tag=None,
        weights=found[0],
        revision=revision,
        location=location_for_folder(revision) if caching else None,
        sha256=sha256 if caching else None,
    )


def _hash(weights: Path, *, cached: bool = True) -> str:
    try:
        return cached_sha256(weights) if cached else sha256_of(weights)
    except OSError as e:
        raise MissingModelError(f"{weights} cannot be read: {e}") from e
