"""The backends of ONNX image classifiers: `open_nsfw`, `owen-s`, and `onnx:PATH` of a description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clipmod_cli.errors import ClipmodError, MissingError, SpecError
from clipmod_cli.models.backend import Backend, KnownModel, LoadContext, ModelKind, ModelSpec, folder_spec
from clipmod_cli.models.hub.sources import HubSource

if TYPE_CHECKING:
    from clipmod_cli.models.onnx.description import Description
    from clipmod_cli.models.seam import Model

OPEN_NSFW: Final = "open_nsfw"
ONNX: Final = "onnx"
OWEN_S: Final = "owen-s"


class OnnxBackend(Backend):
    """Classifiers that the user describes: `onnx:PATH`."""

    prefix: str = ONNX
    kind: ModelKind = "classifier"
    uses_torch = False
    extra = ""

    @property
    def known(self) -> Sequence[KnownModel]:
        """None: descriptions are the user's."""
        return ()

    def parse(self, text: str) -> ModelSpec:
        """Return the model that a spec names."""
        if not text.startswith("onnx:"):
            raise SpecError(f"{text!r} names no description: write onnx:path/to/description.toml")
        return folder_spec(self, "onnx:", text.removeprefix("onnx:"))

    def batch_size(self) -> int:
        """Return the frames of a forward pass."""
        from clipmod_cli.models.onnx import session

        return session.BATCH

    def sources(self, spec: ModelSpec) -> Sequence[HubSource]:
        """Return where on the hub the file is, if it is there."""
        described = self._description(spec)
        if described.repo is None:
            return ()
        checksum = {described.file: described.sha256}
        files = ((described.file,),)
        return (HubSource(repo=described.repo, required=files, commit=described.commit, sha256=checksum),)

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
        path = context.fetch(spec).weights if description.repo else description.locate(_folder(spec))
        alone = context.torch is None
        return model.load(description, path, name=name, spec=spec.spec, device=context.device, alone=alone)

    def _description(self, spec: ModelSpec) -> Description:
        from clipmod_cli.models.onnx import description

        return description.read(spec.path or Path())


class BuiltInOnnxBackend(OnnxBackend):
    """One classifier whose description ships with clipmod; its name is the whole spec."""

    def __init__(self, name: str) -> None:
        self.prefix = name

    @property
    def known(self) -> Sequence[KnownModel]:
        """The classifier, from its file unchecked: completion in the shell asks for it at each Tab."""
        import tomllib
        from importlib.resources import files

        path = files("clipmod_cli.models.onnx") / f"{self._file_name}.toml"
        said = tomllib.loads(path.read_text(encoding="utf-8"))
        return (KnownModel(self.prefix, said["about"], said["file_bytes"], said["licence"]),)

    def parse(self, text: str) -> ModelSpec:
        """Return the classifier."""
        if text != self.prefix:
            raise SpecError(f"{text!r} is not a model: the classifier is named {self.prefix}")
        return ModelSpec(backend=self, spec=self.prefix)

    def _description(self, spec: ModelSpec) -> Description:  # noqa: ARG002 — it has one
        from clipmod_cli.models.onnx import description

        return description.built_in(self._file_name)

    @property
    def _file_name(self) -> str:
        return self.prefix.replace("-", "_")


BUILT_IN: Final = (
    BuiltInOnnxBackend(OPEN_NSFW),
    BuiltInOnnxBackend(OWEN_S),
)
"""The described classifiers that ship with clipmod: their descriptions, not their weights."""


def _folder(spec: ModelSpec) -> Path:
    return (spec.path or Path()).parent
