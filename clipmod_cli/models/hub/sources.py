"""The repositories and file names of each model; no disk and no network.

Only files named here are ever downloaded: weights, settings and vocabularies, never code.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from clipmod_cli.errors import SpecError
from clipmod_cli.install import require_extra

_LAION = {
    "open_clip:ViT-L-14/laion2b_s32b_b82k": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "open_clip:ViT-H-14/laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "open_clip:ViT-g-14/laion2b_s34b_b88k": "laion/CLIP-ViT-g-14-laion2B-s34B-b88K",
}
# The ensemble's repositories, so that finding them does not import open_clip (6 s).

OPEN_CLIP_BIN = "open_clip_pytorch_model.bin"
OPEN_CLIP_SAFE = "open_clip_model.safetensors"
HF_CONFIG = "config.json"
HF_PREPROCESSOR = "preprocessor_config.json"
HF_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
_BESIDE_VOCABULARY = ("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TOKENIZER_FILES = (*VOCABULARIES, *_BESIDE_VOCABULARY, HF_CONFIG)
_SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """The files that a model needs of one repository.

    Attributes:
        required: groups of alternatives; of each group the first that exists is used.
        optional: used where they exist.
        commit: the first download takes this one; None for the head of main.
        sha256: by name of a file whose content is known beforehand, its checksum in hex.
    """

    repo: str
    required: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    commit: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)

    def select(self, available: Collection[str]) -> tuple[str, ...] | None:
        """Return the names to use of those available; None if required ones are missing."""
        selected: list[str] = []
        for group in self.required:
            first = next(
                (name for name in group if name in available and _is_complete(name, available)), None
            )
            if first is None:
                return None
            selected += [first, *(_shards(available) if first == _INDEX else ())]
        selected += [name for name in self.optional if name in available]
        return tuple(dict.fromkeys(selected))

    def describe(self) -> str:
        """Return the required files in words."""
        return " and ".join(" or ".join(group) for group in self.required)


def open_clip_sources(spec: str, arch: str, tag: str) -> tuple[HubSource, ...]:
    """Return the hub sources of an open_clip model, weights first.

    Raises:
        SpecError: open_clip does not know the architecture or the tag.
    """
    return (open_clip_source(_LAION[spec]),) if spec in _LAION else _open_clip_sources(arch, tag)


def hf_source(repo: str) -> HubSource:
    """Return the source of a transformers image classifier."""
    return HubSource(repo=repo, required=((HF_CONFIG,), (HF_PREPROCESSOR,), HF_WEIGHTS))


def open_clip_source(repo: str, filename: str = "") -> HubSource:
    """Return the source of open_clip weights: one file, safetensors before pickle."""
    filename = filename or OPEN_CLIP_BIN
    safe = OPEN_CLIP_SAFE if filename == OPEN_CLIP_BIN else filename.rpartition(".")[0] + ".safetensors"
    return HubSource(repo=repo, required=((safe, filename),))


def _open_clip_sources(arch: str, tag: str) -> tuple[HubSource, ...]:
    require_extra("clip", f"open_clip:{arch}/{tag}")
    import open_clip

    _check_known(open_clip, arch, tag)
    repo, _, filename = open_clip.get_pretrained_cfg(arch, tag)["hf_hub"].rpartition("/")
    weights = open_clip_source(repo, filename)
    text = open_clip.get_model_config(arch).get("text_cfg", {})
    tokenizer = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    if not tokenizer:
        return (weights,)
    if tokenizer != repo:
        return (weights, HubSource(repo=tokenizer, required=(VOCABULARIES,), optional=TOKENIZER_FILES))
    return (HubSource(repo=repo, required=(*weights.required, VOCABULARIES), optional=TOKENIZER_FILES),)


def _check_known(open_clip: Any, arch: str, tag: str) -> None:
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not tags:
        known = sorted({name for name, _ in open_clip.list_pretrained()})
        raise SpecError(f"open_clip has no weights for an architecture {arch!r}.{_closest(arch, known)}")
    if tag not in tags:
        raise SpecError(f"open_clip has no weights {tag!r} for {arch}. It has: {', '.join(tags)}.")
    if not open_clip.get_pretrained_cfg(arch, tag).get("hf_hub"):
        raise SpecError(
            f"{arch}/{tag} is not on the Hugging Face hub: use a folder, open_clip:local-dir:PATH"
        )


def _closest(word: str, known: Collection[str]) -> str:
    lowered = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), lowered, n=3, cutoff=0.5)
    return f" The closest are: {', '.join(lowered[name] for name in close)}." if close else ""


def _is_complete(name: str, available: Collection[str]) -> bool:
    """Return whether all shards of an index are available; True for any other file."""
    if name != _INDEX:
        return True
    shards = _shards(available)
    total = _SHARD.fullmatch(shards[0]) if shards else None
    return total is not None and len(shards) == int(total[1])


def _shards(available: Collection[str]) -> list[str]:
    return sorted(name for name in available if _SHARD.fullmatch(name))
