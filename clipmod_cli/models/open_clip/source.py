"""Which open_clip model is meant: a name that open_clip knows with its file, or a folder with both.

Finding and downloading is `models.weights`; nothing is loaded here, and open_clip is not imported. Whoever
reads a model's weights has them checked here first, since what is made of them is kept under their revision.
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
    """What open_clip is asked to build.

    Attributes:
        model_name: for `create_model` and `get_tokenizer`.
        tag: of the weights, whose preprocessing and activation open_clip knows; None for a folder.
        weights: the file that must be loaded; nothing else ever is.
        revision: identifies weights, configuration and preprocessing.
        place: where the tower is kept once it is in 16 bit; None if it is not kept.
        tokenizer: the folder of a vocabulary that open_clip does not carry itself.
        spec: what names a model that can be downloaded; empty for a folder.
        sha256: what the file of weights hashed to when it was downloaded or found; None if nobody looked.
    """

    model_name: str
    tag: str | None
    weights: Path
    revision: str
    place: TowerLocation | None = None
    tokenizer: Path | None = None
    spec: str = ""
    sha256: str | None = None


def source_of(spec: ModelSpec, files: WeightFiles | None) -> OpenClipSource:
    """Return the source of a model whose files are here; its hash and its tower may be kept.

    A folder needs no `files`: it is read anew.

    Raises:
        MissingModelError: if a folder is no open_clip model.
    """
    if spec.path is not None:
        return folder_source(spec.path, caching=True)
    if files is None:
        raise ValueError(f"{spec.spec} is no folder, so its files have to be named")
    return tag_source(spec, files)


def tag_source(spec: ModelSpec, files: WeightFiles) -> OpenClipSource:
    """Return the source for an architecture and pretrained tag whose files are here.

    Where nothing was recorded of the files, the weights are hashed, and what they are now identifies them.

    Raises:
        MissingModelError: they cannot be read.
    """
    weights = files.weights
    hashes = sorted((files.sha256 or {weights.name: _hash(weights)}).items())
    named = [files.tokenizer_commit] if files.tokenizer_commit else []  # other words for the same prompts
    identity = json.dumps([spec.spec, files.commit, weights.name, hashes, *named])
    return OpenClipSource(
        model_name=str(spec.arch),
        tag=spec.tag,
        weights=weights,
        revision=hashlib.sha256(identity.encode()).hexdigest(),
        place=location_in_cache(spec, files),
        tokenizer=files.tokenizer,
        spec=spec.spec,
        sha256=dict(hashes)[weights.name],
    )


def check_weights(source: OpenClipSource) -> None:
    """Refuse weights that are not those that the source's revision names.

    They are read for it once, and then as soon as the file has changed.

    Raises:
        MissingModelError: they are not, or cannot be read.
    """
    if source.sha256 is None:
        return
    actual = _hash(source.weights)
    if actual != source.sha256:
        mend = f"`clipmod models download {source.spec}` fetches it anew" if source.spec else "start again"
        raise MissingModelError(
            f"{source.weights} is damaged or was changed: its sha256 is {actual} instead of {source.sha256}; "
            f"{mend}"
        )


def folder_source(folder: Path, *, caching: bool = False) -> OpenClipSource:
    """Return the source for a folder with `open_clip_config.json` and safetensors.

    Args:
        folder: the user's own; nothing is written to it.
        caching: keep the file's hash, and later its tower, in the user's cache.

    Raises:
        MissingModelError: if either is missing or cannot be read. open_clip itself would go on with random
            weights.
    """
    config = folder / "open_clip_config.json"
    if not config.is_file():
        raise MissingModelError(f"{folder} has no open_clip_config.json, so it is no open_clip model folder")
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise MissingModelError(f"{folder} must hold exactly one .safetensors file; it holds {len(found)}")
    sha256 = _hash(found[0], once=caching)
    revision = hashlib.sha256(config.read_bytes() + bytes.fromhex(sha256)).hexdigest()
    return OpenClipSource(
        model_name=f"local-dir:{folder}",
        tag=None,
        weights=found[0],
        revision=revision,
        place=location_for_folder(revision) if caching else None,
        sha256=sha256 if caching else None,
    )


def _hash(weights: Path, *, once: bool = True) -> str:
    try:
        return cached_sha256(weights) if once else sha256_of(weights)
    except OSError as e:
        raise MissingModelError(f"{weights} cannot be read: {e}") from e
