"""The backends that clipmod brings: open_clip, transformers and nudenet; each imports its library late."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clipmod_cli.errors import MissingModelError, SettingsError, SpecError
from clipmod_cli.models.backend import (
    OPEN_CLIP,
    OPEN_CLIP_INT8,
    SEE_CARD,
    Backend,
    KnownModel,
    LoadContext,
    ModelSpec,
    folder_spec,
)
from clipmod_cli.models.hub.sources import TOKENIZER_FILES, HubSource, hf_source, open_clip_sources

if TYPE_CHECKING:
    from clipmod_cli.models.hub.weights import WeightFiles
    from clipmod_cli.models.open_clip.text_cache import Embed, TextEmbedder
    from clipmod_cli.models.seam import Model

HF: Final = "hf"
NUDENET: Final = "nudenet"
FALLBACK: Final = "open_clip:ViT-L-14/laion2b_s32b_b82k"

_LOCAL_DIR = "open_clip:local-dir:"
_OPEN_CLIP_CONFIG = "open_clip_config.json"
_PATH_STARTS = ("/", "./", "../", "~")
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
# The hub's own rule for names: at most 96 characters, no punctuation at the ends.
_MB, _GB = 10**6, 10**9


class TorchBackend(Backend):
    """Models on torch, from the hub or from the user's own folders.

    Attributes:
        needs: what a folder must hold, in words.
    """

    uses_torch = True
    needs: str

    @abstractmethod
    def select(self, names: frozenset[str]) -> Sequence[str] | None:
        """Return the names of a model's files of those in its folder; nothing if some are missing."""

    def batch_size(self) -> int:
        """Not called: the placement says it."""
        raise AssertionError("models on torch take the batch size of their placement")

    def local_files(self, spec: ModelSpec) -> Mapping[str, Path] | None:
        """Return the files of a folder by name; None if some are missing."""
        folder = spec.path
        if folder is None or not folder.is_dir():
            return None
        files = frozenset(
            entry.name for entry in folder.iterdir() if entry.is_file() and entry.stat().st_size
        )
        return {name: folder / name for name in self.select(files) or ()} or None

    def local_problems(self, spec: ModelSpec) -> list[str]:
        """Return what is missing in a folder; contents are not read."""
        if self.local_files(spec):
            return []
        if not spec.path or not spec.path.is_dir():
            return [f"{spec.spec}: there is no folder {spec.path}"]
        return [f"{spec.path} lacks {self.needs}"]


class OpenClipBackend(TorchBackend):
    """Text-image models of open_clip: `open_clip:ARCH/TAG` and `open_clip:local-dir:PATH`."""

    prefix = OPEN_CLIP
    kind = "text-image"
    extra = "clip"
    needs = f"{_OPEN_CLIP_CONFIG} and exactly one .safetensors file"
    known: Sequence[KnownModel] = (
        KnownModel(FALLBACK, "text-image, 0.40 of ensemble and fallback", int(1.71 * _GB), "MIT"),
        KnownModel(
            "open_clip:ViT-H-14/laion2b_s32b_b79k", "text-image, 0.35 of ensemble", int(3.94 * _GB), "MIT"
        ),
        KnownModel(
            "open_clip:ViT-g-14/laion2b_s34b_b88k", "text-image, 0.25 of ensemble", int(5.47 * _GB), "MIT"
        ),
    )

    def parse(self, text: str) -> ModelSpec:
        """Return the model that a spec names."""
        if text.startswith(_LOCAL_DIR):
            return folder_spec(self, _LOCAL_DIR, text.removeprefix(_LOCAL_DIR))
        text = text.removeprefix("open_clip:")
        arch, slash, tag = text.strip().rpartition("/")
        if not slash or not arch or not tag:
            raise SpecError(
                f"open_clip:{text} names no pretrained tag: write open_clip:ARCH/TAG, as in {FALLBACK}, "
                "or open_clip:local-dir:PATH"
            )
        # open_clip reads both spellings of each; one of them has to be the name.
        arch, tag = arch.replace("/", "-"), tag.lower().replace("-", "_")
        return ModelSpec(backend=self, spec=f"open_clip:{arch}/{tag}", arch=arch, tag=tag)

    def sources(self, spec: ModelSpec) -> Sequence[HubSource]:
        """Return where on the hub its files are."""
        return () if spec.path else open_clip_sources(spec.spec, spec.arch or "", spec.tag or "")

    def select(self, names: frozenset[str]) -> Sequence[str]:
        """Return the names of the configuration, the weights and a vocabulary."""
        weights = [name for name in names if name.endswith(".safetensors")]
        if _OPEN_CLIP_CONFIG not in names or len(weights) != 1:
            return ()
        return (_OPEN_CLIP_CONFIG, *weights, *(name for name in TOKENIZER_FILES if name in names))

    def load(self, spec: ModelSpec, name: str, context: LoadContext) -> Model:
        """Return the model, loaded."""
        from clipmod_cli.models.open_clip import model, text_cache
        from clipmod_cli.models.open_clip.source import source_of

        torch = context.on_torch
        source = source_of(spec, context.fetch(spec))
        return model.load(
            source,
            name=name,
            spec=spec.spec,
            placement=torch.placement,
            cache=text_cache.TextCache(text_cache.default_folder(), source.revision),
            crops=torch.crops,
            compile=torch.compile,
        )

    def text_embedder(
        self, spec: ModelSpec, revision: str, fetch: Callable[[ModelSpec], WeightFiles]
    ) -> TextEmbedder:
        """Return what embeds prompts; the checkpoint is read if one of them is not cached."""
        from clipmod_cli.models.open_clip.text_cache import TextCache, TextEmbedder, default_folder

        def load() -> Embed:
            from clipmod_cli.models.open_clip.checkpoint import load_embedder
            from clipmod_cli.models.open_clip.source import source_of

            source = source_of(spec, fetch(spec))
            if source.revision != revision:
                raise MissingModelError(
                    f"{spec.spec} has other weights on this machine than those whose evidence is stored "
                    f"(revision {revision[:12]}), so no new prompts can be compared with it"
                )
            return load_embedder(source)

        return TextEmbedder(TextCache(default_folder(), revision), load)


class OpenClipInt8Backend(OpenClipBackend):
    """The same models, multiplied in 8 bits on a CPU: `open_clip_int8:ARCH/TAG` and `...:local-dir:PATH`.

    Faster than float32 where bfloat16 is not multiplied in hardware, and less precise than any other form: a
    screen of calibrated early exit need not be precise.
    """

    prefix = OPEN_CLIP_INT8
    known = ()

    def parse(self, text: str) -> ModelSpec:
        """Return the model that a spec names."""
        spec = super().parse(f"{OPEN_CLIP}:{text.removeprefix(f'{self.prefix}:')}")
        return replace(spec, backend=self, spec=f"{self.prefix}:{spec.spec.removeprefix(f'{OPEN_CLIP}:')}")

    def load(self, spec: ModelSpec, name: str, context: LoadContext) -> Model:
        """Return the model, loaded."""
        import torch

        from clipmod_cli.models.tower.layers import can_multiply_int8

        placement = context.on_torch.placement
        if placement.device.type != "cpu":
            raise SettingsError(f"{spec.spec} computes on a CPU only: leave it out, or name --device cpu")
        if not can_multiply_int8():
            raise SettingsError(f"{spec.spec}: torch cannot multiply in 8 bits on this machine")
        on_torch = replace(context.on_torch, placement=placement.with_dtype(torch.int8), compile=False)
        return super().load(spec, name, replace(context, torch=on_torch))


class TransformersBackend(TorchBackend):
    """Image classifiers of the transformers library: `hf:OWNER/NAME` and `hf:PATH`."""

    prefix = HF
    kind = "classifier"
    extra = "hf"
    needs = hf_source("").describe()
    known = (
        KnownModel("hf:Falconsai/nsfw_image_detection", "classifier: normal, nsfw", 343 * _MB, "Apache-2.0"),
        KnownModel(
            "hf:LukeJacob2023/nsfw-image-detector",
            "classifier: drawings, hentai, neutral, porn, sexy",
            None,
            SEE_CARD,
        ),
        KnownModel(
            "hf:nateraw/vit-age-classifier", "classifier: age of a face, in nine bands", 343 * _MB, SEE_CARD
        ),
    )

    def parse(self, text: str) -> ModelSpec:
        """Return the model that a spec names."""
        text = text.removeprefix("hf:").strip()
        if text.startswith("//"):  # as sources are written
            raise SpecError(f"hf:{text} is not a model: write hf:{text.lstrip('/') or 'OWNER/NAME'}")
        if text.startswith(_PATH_STARTS):
            return folder_spec(self, "hf:", text)
        parts = text.split("/")
        if len(parts) != 2 or not all(_is_repo_part(part) for part in parts):
            raise SpecError(
                f"hf:{text} is neither OWNER/NAME on the Hugging Face hub nor a path: write "
                f"hf:Falconsai/nsfw_image_detection, or for a folder hf:./{text or 'FOLDER'}"
            )
        return ModelSpec(backend=self, spec=f"hf:{text}", repo=text)

    def sources(self, spec: ModelSpec) -> Sequence[HubSource]:
        """Return where on the hub its files are."""
        return (hf_source(spec.repo),) if spec.repo else ()

    def select(self, names: frozenset[str]) -> Sequence[str] | None:
        """Return the names of configuration, processor and weights."""
        return hf_source("").select(names)

    def load(self, spec: ModelSpec, name: str, context: LoadContext) -> Model:
        """Return the model, loaded."""
        from clipmod_cli.models import transformers

        folder = spec.path or context.fetch(spec).folder
        return transformers.load(folder, name=name, spec=spec.spec, placement=context.on_torch.placement)


class NudeNetBackend(Backend):
    """The detector of the nudenet package: `nudenet`."""

    prefix = NUDENET
    kind = "detector"
    uses_torch = False
    extra = "nudenet"
    known = (
        KnownModel(NUDENET, "detector, comes with its package", int(12.2 * _MB), "AGPL-3.0 (metadata: MIT)"),
    )

    def parse(self, text: str) -> ModelSpec:
        """Return the detector."""
        if text != NUDENET:
            raise SpecError(f"{text!r} is not a model: the detector is named {NUDENET}")
        return ModelSpec(backend=self, spec=NUDENET)

    def batch_size(self) -> int:
        """Return the frames of a forward pass."""
        from clipmod_cli.models.onnx import session

        return session.BATCH

    def local_files(self, spec: ModelSpec) -> Mapping[str, Path] | None:  # noqa: ARG002 — the seam's
        """Return the package's file."""
        from clipmod_cli.models import nudenet

        return nudenet.packaged_files()

    def local_problems(self, spec: ModelSpec) -> list[str]:  # noqa: ARG002 — the seam's
        """Return what is wrong with the package's file."""
        from clipmod_cli.models import nudenet

        return nudenet.packaged_problems()

    def load(self, spec: ModelSpec, name: str, context: LoadContext) -> Model:
        """Return the detector, loaded."""
        from clipmod_cli.models import nudenet

        alone = context.torch is None
        return nudenet.load(name=name, spec=spec.spec, device=context.device, alone=alone)


def _is_repo_part(part: str) -> bool:
    return bool(_REPO_PART.fullmatch(part)) and "--" not in part and ".." not in part
