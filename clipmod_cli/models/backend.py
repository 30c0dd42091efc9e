"""The seam of a model backend: specs of its models, their files, and how they are loaded.

Imports no library of models, since the command line reads its options with it. Backends are listed in
`clipmod_cli.models.registry`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from clipmod_cli.errors import SpecError
from clipmod_cli.install import is_installed, require_extra

if TYPE_CHECKING:
    from clipmod_cli.models.device.crops import CropBatches
    from clipmod_cli.models.device.device import Placement
    from clipmod_cli.models.hub.sources import HubSource
    from clipmod_cli.models.hub.weights import WeightFiles
    from clipmod_cli.models.open_clip.text_cache import TextEmbedder
    from clipmod_cli.models.seam import Model

ModelKind: TypeAlias = Literal["text-image", "classifier", "detector"]

SEE_CARD = "see the model card"

OPEN_CLIP: Final = "open_clip"
OPEN_CLIP_INT8: Final = "open_clip_int8"
OF_OPEN_CLIP: Final = frozenset({OPEN_CLIP, OPEN_CLIP_INT8})
"""The prefixes of models with open_clip's architectures and weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model, named.

    Attributes:
        backend: loads it.
        spec: the text that names it, without weight; also the key of label maps.
        arch: open_clip's name of the architecture.
        tag: open_clip's name of the weights, as open_clip spells it.
        path: the folder, with `~` expanded, of a model that is one.
        repo: `OWNER/NAME` on the hub.
    """

    backend: Backend
    spec: str
    arch: str | None = None
    tag: str | None = None
    path: Path | None = None
    repo: str | None = None

    @property
    def short_name(self) -> str:
        """Its name in records, unless another member has the same."""
        if self.path:
            return Path(os.path.abspath(self.path)).name or self.spec  # noqa: PTH100 - it resolves `..`
        return self.arch or self.repo or self.spec

    @property
    def identity(self) -> tuple[str, str]:
        """Equal for two spellings of one model."""
        return self.backend.prefix, os.path.realpath(self.path) if self.path else self.spec


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One line of `clipmod models list`.

    Attributes:
        size: of the download, in bytes, about; None where it is not known for certain.
    """

    spec: str
    about: str
    size: int | None
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadContext:
    """What a backend needs to load a model.

    Attributes:
        device: the `--device` setting, or the device that was chosen for the models on torch.
        fetch: gives a model's files, and downloads those that are missing.
        torch: the device, precision and options of the models on torch; None if no model is on torch.
    """

    device: str
    fetch: Callable[[ModelSpec], WeightFiles]
    torch: TorchContext | None = None

    @property
    def on_torch(self) -> TorchContext:
        """The context of a model on torch."""
        if self.torch is None:
            raise AssertionError("a backend that uses torch was loaded without a placement")
        return self.torch


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchContext:
    """How models on torch are loaded.

    Attributes:
        crops: stacks the crops of batches, for all models with the same view.
        compile: whether towers are compiled.
    """

    placement: Placement
    crops: CropBatches
    compile: bool = False


class Backend(Protocol):
    """Models of one library. Stateless; methods may be called by any thread.

    Attributes:
        prefix: of its specs: `PREFIX` itself, or `PREFIX:...`.
        kind: of all its models.
        uses_torch: whether its models run on torch; others need no import of it.
        extra: the extra of clipmod that installs its packages; empty if they are always there.
    """

    prefix: str
    kind: ModelKind
    uses_torch: bool
    extra: str

    @property
    def known(self) -> Sequence[KnownModel]:
        """Models for `clipmod models list`."""
        ...

    def parse(self, text: str) -> ModelSpec:
        """Return the model that a spec names.

        Raises:
            SpecError: it names none.
        """
        ...

    def batch_size(self) -> int:
        """Return the frames of a forward pass if no model is on torch, and the user names none."""
        ...

    def sources(self, spec: ModelSpec) -> Sequence[HubSource]:  # noqa: ARG002
        """Return where on the hub its files are, weights first; empty if it is not on the hub.

        Raises:
            SpecError: the library does not know this model.
        """
        return ()

    def local_files(self, spec: ModelSpec) -> Mapping[str, Path] | None:
        """Return the files of a model that is not on the hub, by name; None if some are missing."""
        ...

    def local_problems(self, spec: ModelSpec) -> list[str]:
        """Return what is wrong with the files of a model that is not on the hub."""
        ...

    def load(self, spec: ModelSpec, name: str, context: LoadContext) -> Model:
        """Return the model, loaded; `name` is its name in records.

        Raises:
            MissingError: if files or a package are missing and cannot be downloaded.
        """
        ...

    def text_embedder(
        self,
        spec: ModelSpec,  # noqa: ARG002
        revision: str,  # noqa: ARG002
        fetch: Callable[[ModelSpec], WeightFiles],  # noqa: ARG002
    ) -> TextEmbedder:
        """Return what embeds prompts with the text tower of a text-image model; nothing is loaded yet.

        Args:
            spec: the model.
            revision: of the weights; where others are on this machine, embedding raises MissingModelError.
            fetch: gives the model's files, if a prompt is not cached.
        """
        raise AssertionError(f"{self.prefix} has no text tower")


def has_packages(spec: ModelSpec) -> bool:
    """Return whether the packages that a model needs are installed."""
    return not spec.backend.extra or is_installed(spec.backend.extra)


def require_packages(spec: ModelSpec) -> None:
    """Check that the packages that a model needs are installed.

    Raises:
        MissingPackageError: they are not; the message names the command that installs them.
    """
    if spec.backend.extra:
        require_extra(spec.backend.extra, spec.spec)


def folder_spec(backend: Backend, prefix: str, text: str) -> ModelSpec:
    """Return the model in the folder `text`, whose spec begins with `prefix`.

    Raises:
        SpecError: it names no folder.
    """
    text = text.strip()
    text = text.rstrip("/") or text[:1]
    if not text or "\0" in text:
        raise SpecError(f"{prefix} names no folder: write {prefix}/path/to/folder")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise SpecError(f"{prefix}{text}: {error}; write the path out") from error
    return ModelSpec(backend=backend, spec=f"{prefix}{text}", path=path)


def human_size(size: int | None) -> str:
    """Return a size as people read it: decimal units, three figures, `-` for None."""
    if size is None:
        return "-"
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{size} B" if unit == "B" else f"{value:.3g} {unit}"
