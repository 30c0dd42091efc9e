"""The backends that clipmod brings: open_clip, transformers and nudenet; each imports its library late."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clipmod_cli.errors import SpecError
from clipmod_cli.models.backend import (
    SEE_CARD,
    KnownModel,
    LoadContext,
    ModelKind,
    ModelSpec,
    folder_spec,
)

if TYPE_CHECKING:
    from clipmod_cli.models.hub.sources import HubSource
    from clipmod_cli.models.seam import Model

OPEN_CLIP: Final = "open_clip"
HF: Final = "hf"
NUDENET: Final = "nudenet"
FALLBACK: Final = "open_clip:ViT-L-14/laion2b_s32b_b82k"

_LOCAL_DIR = "open_clip:local-dir:"
_PATH_STARTS = ("/", "./", "../", "~")
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
# The hub's own rule for names: at most 96 characters, no punctuation at the ends.
_MB, _GB = 10**6, 10**9


class TorchBackend:
    """What backends on torch share."""

    uses_torch: bool = True

    def batch_size(self) -> int:
        """Not called: the placement says it."""
        raise AssertionError("models on torch take the batch size of their placement")


class OpenClipBackend(TorchBackend):
    """Text-image models of open_clip: `open_clip:ARCH/TAG` and `open_clip:local-dir:PATH`."""

    prefix: str = OPEN_CLIP
    kind: ModelKind = "text-image"
    install: str = "pip install open_clip_torch"
    extra: str = ""
    known: Sequence[KnownModel] = (
        KnownModel(
            spec=FALLBACK,
            about="text-image, 0.40 of ensemble and fallback",
            size=int(1.71 * _GB),
            licence="MIT",
        ),
        KnownModel(
            spec="open_clip:ViT-H-14/laion2b_s32b_b79k",
            about="text-image, 0.35 of ensemble",
            size=int(3.94 * _GB),
            licence="MIT",
        ),
        KnownModel(
            spec="open_clip:ViT-g-14/laion2b_s34b_b88k",
            about="text-image, 0.25 of ensemble",
            size=int(5.47 * _GB),
            licence="MIT",
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
        from clipmod_cli.models.hub.sources import open_clip_sources

        return () if spec.path else open_clip_sources(spec.spec, spec.arch or "", spec.tag or "")

    def local_files(self, spec: ModelSpec) -> Mapping[str, Path] | None:
        """Return the files of a folder."""
        from clipmod_cli.models.hub.local_files import open_clip_files

        return open_clip_files(spec.path) if spec.path else None

    def local_problems(self, spec: ModelSpec) -> list[str]:
        """Return what is wrong with a folder."""
        from clipmod_cli.models.hub.local_files import OPEN_CLIP_NEEDS, folder_problems

        return folder_problems(spec, self.local_files(spec), f"must hold {OPEN_CLIP_NEEDS}")

    def load(self, spec: ModelSpec, name: str, context: LoadContext) -> Model:
        """Return the model, loaded."""
        from clipmod_cli.models.open_clip import model, text_cache
        from clipmod_cli.models.open_clip.source import source_of

        torch = context.on_torch
        source = source_of(spec, None if spec.path else context.fetch(spec))
        return model.load(
            source,
            name=name,
            spec=spec.spec,
            placement=torch.placement,
            cache=text_cache.TextCache(text_cache.default_folder(), source.revision),
            crops=torch.crops,
            compile=torch.compile,
        )


class TransformersBackend(TorchBackend):
    """Image classifiers of the transformers library: `hf:OWNER/NAME` and `hf:PATH`."""

    prefix: str = HF
    kind: ModelKind = "classifier"
    install: str = "pip install '.[hf]'"
    extra: str = "hf"
    known: Sequence[KnownModel] = (
        KnownModel(
            spec="hf:Falconsai/nsfw_image_detection",
            about="classifier: normal, nsfw",
            size=343 * _MB,
            licence="Apache-2.0",
        ),
        KnownModel(
            spec="hf:LukeJacob2023/nsfw-image-detector",
            about="classifier: drawings, hentai, neutral, porn, sexy",
            size=None,
            licence=SEE_CARD,
        ),
        KnownModel(
            spec="hf:nateraw/vit-age-classifier",
            about="classifier: age of a face, in nine bands",
            size=343 * _MB,
            licence=SEE_CARD,
        ),
    )

    def parse(self, text: str) -> ModelSpec:
        """Return the model that a spec names."""
        text = text.removeprefix("hf:").strip()
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
        from clipmod_cli.models.hub.sources import hf_source

        return (hf_source(spec.repo),) if spec.repo else ()

    def local_files(self, spec: ModelSpec) -> Mapping[str, Path] | None:
        """Return the files of a folder."""
        from clipmod_cli.models.hub.local_files import hf_files

        return hf_files(spec.path) if spec.path else None

    def local_problems(self, spec: ModelSpec) -> list[str]:
        """Return what is wrong with a folder."""
        from clipmod_cli.models.hub.local_files import folder_problems
        from clipmod_cli.models.hub.sources import hf_source

        return folder_problems(spec, self.local_files(spec), f"lacks {hf_source('').describe()}")

    def load(self, spec: ModelSpec, name: str, context: LoadContext) -> Model:
        """Return the model, loaded."""
        from clipmod_cli.models import transformers

        folder = spec.path or context.fetch(spec).folder
        return transformers.load(folder, name=name, spec=spec.spec, placement=context.on_torch.placement)


class NudeNetBackend:
    """The detector of the nudenet package: `nudenet`."""

    prefix: str = NUDENET
    kind: ModelKind = "detector"
    uses_torch: bool = False
    extra: str = "nudenet"
    known: Sequence[KnownModel] = (
        KnownModel(
            spec=NUDENET,
            about="detector, comes with its package",
            size=int(12.2 * _MB),
            licence="AGPL-3.0 (metadata: MIT)",
        ),
    )

    @property
    def install(self) -> str:
        """The command that installs it."""
        from clipmod_cli.models import nudenet

        return nudenet.INSTALL

    def parse(self, text: str) -> ModelSpec:
        """Return the detector."""
        if text != NUDENET:
            raise SpecError(f"{text!r} is not a model: the detector is named {NUDENET}")
        return ModelSpec(backend=self, spec=NUDENET)

    def batch_size(self) -> int:
        """Return the frames of a forward pass."""
        from clipmod_cli.models import nudenet

        return nudenet.BATCH

    def sources(self, spec: ModelSpec) -> Sequence[HubSource]:  # noqa: ARG002 — the seam's
        """Return nothing: it comes with its package."""
        return ()

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
