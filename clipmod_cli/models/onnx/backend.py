"""The backends of ONNX image classifiers: the built-in `open_nsfw`, and `onnx:PATH` of a description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clipmod_cli.errors import ClipmodError, MissingError, SpecError
from clipmod_cli.models.backend import Backend, KnownModel, LoadContext, ModelKind, ModelSpec, folder_spec

if TYPE_CHECKING:
    from clipmod_cli.models.onnx.description import Description
    from clipmod_cli.models.seam import Model

OPEN_NSFW: Final = "open_nsfw"
ONNX: Final = "onnx"


class OnnxBackend(Backend):
    """Classifiers that the user describes: `onnx:PATH`."""

    prefix: str = ONNX
    kind: ModelKind = "classifier"
    uses_torch = False
    extra = ""
    known: Sequence[KnownModel] = ()

    def parse(self, text: str) -> ModelSpec:
        """Return the model that a spec names."""
        if not text.startswith("onnx:"):
            raise SpecError(f"{text!r} names no description: write onnx:path/to/description.toml")
        return folder_spec(self, "onnx:", text.removeprefix("onnx:"))

    def batch_size(self) -> int:
        """Return the frames of a forward pass."""
        from clipmod_cli.models.onnx import session

        return session.BATCH

    def local_files(self, spec: ModelSpec) -> Mapping[str, Path] | None:
        """Return the ONNX file by name; None if it is not here."""
        try:
            path = self._description(spec).locate(_folder(spec))
        except MissingError:
            return None
        return {path.name: path}

    def local_problems(self, spec: ModelSpec) -> list[str]:
        """Compare the file with the checksum of its description."""
        try:
            description = self._description(spec)
            description.read_weights(description.locate(_folder(spec)))
        except ClipmodError as error:
            return [str(error)]
        return []

    def load(self, spec: ModelSpec, name: str, context: LoadContext) -> Model:
        """Return the classifier, loaded."""
        from clipmod_cli.models.onnx import model

        description = self._description(spec)
        path = description.locate(_folder(spec))
        alone = context.torch is None
        return model.load(description, path, name=name, spec=spec.spec, device=context.device, alone=alone)

    def _description(self, spec: ModelSpec) -> Description:
        from clipmod_cli.models.onnx import description

        return description.read(spec.path or Path())


class OpenNsfwBackend(OnnxBackend):
    """Yahoo's open_nsfw, whose weights come with a package: `open_nsfw`."""

    prefix = OPEN_NSFW
    known = (KnownModel(OPEN_NSFW, "classifier: sfw, nsfw", 23_590_724, "BSD-2-Clause"),)

    def parse(self, text: str) -> ModelSpec:
        """Return the classifier."""
        if text != OPEN_NSFW:
            raise SpecError(f"{text!r} is not a model: the classifier is named {OPEN_NSFW}")
        return ModelSpec(backend=self, spec=OPEN_NSFW)

    def _description(self, spec: ModelSpec) -> Description:  # noqa: ARG002 — it has one
        from clipmod_cli.models.onnx import description

        return description.built_in(OPEN_NSFW)


def _folder(spec: ModelSpec) -> Path:
    return (spec.path or Path()).parent
