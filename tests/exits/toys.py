"""Backends of toy classifiers that see one or two colours as unsafe, and pictures for them."""

# ruff: noqa: ARG002 — the seam has more than a toy needs

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from clipmod_cli.models.backend import Backend, KnownModel, LoadContext, ModelKind, ModelSpec
from clipmod_cli.models.seam import ImmediateModel
from clipmod_cli.types import Frame, Geometry, LabelScores

GEOMETRY = Geometry(fit="squash", size=(8, 8))
COST_S = 0.003
"""Of a picture, by the one that sees two colours: it is dearer than the other."""
POLICY = """
name = "colours"
agreement_threshold = 0.0
review_margin = 0.0
[[categories]]
name = "other"
safety = "SAFE"
labels = {{ {first} = ["other"], {second} = ["other"] }}
[[categories]]
name = "unsafe"
safety = "UNSAFE"
labels = {{ {first} = ["unsafe"], {second} = ["unsafe"] }}
""".format(first="sees-red", second="sees-red-and-blue")
MODELS = "sees-red=0.3,sees-red-and-blue=0.7"


class ColourClassifier(ImmediateModel):
    """Its unsafe score is the share of some channels in the mean colour."""

    kind: Literal["classifier"] = "classifier"
    revision = "1"
    labels = ("other", "unsafe")
    geometry = GEOMETRY

    def __init__(self, name: str, spec: str, channels: Sequence[int]) -> None:
        self.name, self.spec, self.channels = name, spec, list(channels)

    def infer(self, frames: Sequence[Frame]) -> Sequence[LabelScores]:
        time.sleep(COST_S * (len(self.channels) - 1) * len(frames))
        means = [frame.inputs[GEOMETRY].mean(axis=(0, 1)) for frame in frames]
        shares = [float(mean[self.channels].sum() / max(mean.sum(), 1.0)) for mean in means]
        return [LabelScores(scores={"other": 1.0 - share, "unsafe": share}) for share in shares]


class ColourBackend(Backend):
    """The backend of one of them."""

    kind: ModelKind = "classifier"
    uses_torch: bool = False
    extra: str = ""

    def __init__(self, prefix: str, channels: Sequence[int]) -> None:
        self.prefix, self.channels = prefix, channels

    @property
    def known(self) -> Sequence[KnownModel]:
        return (KnownModel(self.prefix, "a toy", 0, "Apache-2.0"),)

    def parse(self, text: str) -> ModelSpec:
        return ModelSpec(backend=self, spec=text)

    def batch_size(self) -> int:
        return 8

    def local_files(self, spec: ModelSpec) -> dict[str, Path]:
        return {"toys.py": Path(__file__)}

    def local_problems(self, spec: ModelSpec) -> list[str]:
        return []

    def load(self, spec: ModelSpec, name: str, context: LoadContext) -> ColourClassifier:
        return ColourClassifier(name, spec.spec, self.channels)


BACKENDS = {
    "sees-red": ColourBackend("sees-red", [0]),
    "sees-red-and-blue": ColourBackend("sees-red-and-blue", [0, 2]),
}


def draw(folder: Path, colours: Sequence[str], start: int = 0) -> None:
    """Write a picture of each colour (red, green or blue), named in their order, each a little different."""
    folder.mkdir(exist_ok=True)
    for number, colour in enumerate(colours, start):
        rng = np.random.default_rng(number)
        mean = np.array({"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250)}[colour])
        noisy = (mean + rng.integers(-5, 6, (8, 8, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:05}.png")
