"""A backend in one file: a classifier that scores how red a picture is by its mean colour."""

# ruff: noqa: ARG002 — the seam has more than a toy needs

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from clipmod_cli.errors import SpecError
from clipmod_cli.models.backend import Backend, KnownModel, LoadContext, ModelKind, ModelSpec
from clipmod_cli.models.seam import ImmediateModel
from clipmod_cli.types import Frame, Geometry, LabelScores

GEOMETRY = Geometry(fit="squash", size=(16, 16))


class RednessModel(ImmediateModel):
    """The share of red in a picture's mean colour."""

    kind: Literal["classifier"] = "classifier"
    revision = "1"
    labels = ("other", "red")
    geometry = GEOMETRY

    def __init__(self, name: str, spec: str) -> None:
        self.name, self.spec = name, spec

    def infer(self, frames: Sequence[Frame]) -> Sequence[LabelScores]:
        shares = [_share_of_red(frame) for frame in frames]
        return [LabelScores(scores={"other": 1 - share, "red": share}) for share in shares]


def _share_of_red(frame: Frame) -> float:
    red, green, blue = frame.inputs[GEOMETRY].mean(axis=(0, 1))
    return float(red / max(red + green + blue, 1))


class RednessBackend(Backend):
    """The backend of the spec `redness`."""

    prefix: str = "redness"
    kind: ModelKind = "classifier"
    uses_torch: bool = False
    extra: str = ""
    known: Sequence[KnownModel] = (KnownModel("redness", "classifier: other, red", 0, "Apache-2.0"),)

    def parse(self, text: str) -> ModelSpec:
        if text != self.prefix:
            raise SpecError(f"{text!r} is not a model: write redness")
        return ModelSpec(backend=self, spec=text)

    def batch_size(self) -> int:
        return 8

    def local_files(self, spec: ModelSpec) -> Mapping[str, Path]:
        return {"toy_backend.py": Path(__file__)}

    def local_problems(self, spec: ModelSpec) -> list[str]:
        return []

    def load(self, spec: ModelSpec, name: str, context: LoadContext) -> RednessModel:
        return RednessModel(name, spec.spec)
