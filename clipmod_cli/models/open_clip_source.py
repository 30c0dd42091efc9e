"""Which open_clip model is meant: a name that open_clip knows with its file, or a folder with both.

Finding and downloading is `models.weights`; nothing is loaded here, and open_clip is not imported.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.cache import sha256_of
from clipmod_cli.models.file_hashes import sha256_once
from clipmod_cli.models.kept import WeightFiles
from clipmod_cli.models.specs import ModelSpec
from clipmod_cli.models.tower_place import TowerPlace, cache_place, folder_place


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What open_clip is asked to build.

    Attributes:
        model_name: for `create_model` and `get_tokenizer`.
        tag: of the weights, whose preprocessing and activation open_clip knows; None for a folder.
        weights: the file that must be loaded; nothing else ever is.
        revision: identifies weights, configuration and preprocessing.
        place: where the tower is kept once it is in 16 bit; None if it is not kept.
        tokenizer: the folder of a vocabulary that open_clip does not carry itself.
    """

    model_name: str
    tag: str | None
    weights: Path
    revision: str
    place: TowerPlace | None = None
    tokenizer: Path | None = None


def source_of(spec: ModelSpec, files: WeightFiles) -> Source:
    """Return the source of a model whose files are here; its hash and its tower may be kept.

    Raises:
        MissingModelError: if a folder is no open_clip model.
    """
    return folder_source(spec.path, caching=True) if spec.path else tag_source(spec, files)


def tag_source(spec: ModelSpec, files: WeightFiles) -> Source:
    """Return the source for an architecture and pretrained tag whose files are here."""
    hashes = sorted((files.sha256 or {}).items())
    identity = json.dumps([spec.spec, files.commit, files.weights.name, hashes])
    return Source(
        model_name=str(spec.arch),
        tag=spec.tag,
        weights=files.weights,
        revision=hashlib.sha256(identity.encode()).hexdigest(),
        place=cache_place(spec, files),
        tokenizer=files.tokenizer,
    )


def folder_source(folder: Path, *, caching: bool = False) -> Source:
    """Return the source for a folder with `open_clip_config.json` and safetensors.

    Args:
        folder: the user's own; nothing is written to it.
        caching: keep the file's hash, and later its tower, in the user's cache.

    Raises:
        MissingModelError: if either is missing. open_clip itself would go on with random weights.
    """
    config = folder / "open_clip_config.json"
    if not config.is_file():
        raise MissingModelError(f"{folder} has no open_clip_config.json, so it is no open_clip model folder")
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise MissingModelError(f"{folder} must hold exactly one .safetensors file; it holds {len(found)}")
    digest = hashlib.sha256(config.read_bytes())
    digest.update(bytes.fromhex(sha256_once(found[0]) if caching else sha256_of(found[0])))
    revision = digest.hexdigest()
    return Source(
        model_name=f"local-dir:{folder}",
        tag=None,
        weights=found[0],
        revision=revision,
        place=folder_place(revision) if caching else None,
    )
