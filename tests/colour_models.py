"""Small models with a meaning: each sees how red a picture is, after the same seam as the real ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.policy.values import Category, Policy
from clipmod_cli.models.seam import ImmediateModel
from clipmod_cli.types import (
    Box,
    Detection,
    Detections,
    Embedding,
    Frame,
    Geometry,
    Item,
    LabelScores,
    Media,
    Seen,
    View,
)

SMALL = Geometry(fit="squash", size=(2, 2))
LARGE = Geometry(fit="squash", size=(4, 4))
VIEWS = (SMALL, LARGE)

POLICY = Policy(
    name="red",
    categories=(
        Category(
            name="other",
            safety="SAFE",
            otherwise=True,
            prompts=("green", "blue"),
            labels={"hf:red": ("other",)},
        ),
        Category(
            name="red",
            safety="UNSAFE",
            prompts=("red", "crimson"),
            labels={"hf:red": ("red",), "detector": ("RED",)},
        ),
    ),
)


def frame_of(redness: float, index: int = 0) -> Frame:
    """Return a decoded picture of one colour, between blue (0) and red (1)."""
    colour = np.array([round(255 * redness), 0, round(255 * (1 - redness))], dtype=np.uint8)
    geometries = {geometry: np.broadcast_to(colour, (*geometry.size, 3)).copy() for geometry in VIEWS}
    return Frame(
        item=Item(source=f"{index}.png", index=index),
        media=Media(started=0.0, views=1),
        view=View(box=Box(0, 0, 4, 4)),
        inputs=geometries,
    )


def redness_of(frame: Frame, geometry: Geometry) -> float:
    return float(frame.inputs[geometry][..., 0].mean()) / 255


@dataclass
class ColourModel(ImmediateModel):
    """What the three kinds share; `before` may raise, as a device or a library would."""

    name: str = "red"
    spec: str = "red"
    revision: str = "1"
    geometry: Geometry = SMALL
    dtype: str = "float32"
    before: Callable[[Sequence[Frame]], None] = lambda _: None
    after: Callable[[list[Seen]], Sequence[Seen]] = lambda seen: seen
    calls: list[int] = field(default_factory=list)

    def infer(self, frames: Sequence[Frame]) -> Sequence[Seen]:
        """Return what is seen in each frame."""
        self.calls.append(len(frames))
        self.before(frames)
        return self.after([self.see(redness_of(frame, self.geometry)) for frame in frames])

    def see(self, redness: float) -> Seen:
        """Return what is seen in a picture this red."""
        raise AssertionError(redness)


@dataclass
class RedEmbedder(ColourModel):
    """A text-image model in two dimensions: red, and everything else."""

    kind: Literal["text-image"] = "text-image"
    logit_scale: float = math.log(9)
    asked: list[str] = field(default_factory=list)

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return the direction of each prompt."""
        self.asked += prompts
        red = [prompt in {"red", "crimson"} for prompt in prompts]
        return np.array([(1, 0) if is_red else (0, 1) for is_red in red], dtype=np.float32)

    def see(self, redness: float) -> Embedding:
        vector = np.array([redness, 1 - redness], dtype=np.float32)
        return Embedding(vector=vector / np.linalg.norm(vector))


@dataclass
class RedClassifier(ColourModel):
    """A classifier of two labels."""

    kind: Literal["classifier"] = "classifier"
    spec: str = "hf:red"
    labels: Sequence[str] = ("other", "red")

    def see(self, redness: float) -> LabelScores:
        return LabelScores(scores={"other": 1 - redness, "red": redness})


@dataclass
class RedDetector(ColourModel):
    """A detector, which says nothing of what is not red."""

    kind: Literal["detector"] = "detector"
    spec: str = "detector"
    labels: Sequence[str] = ("RED",)

    def see(self, redness: float) -> Detections:
        if redness < 0.25:
            return Detections(found=())
        return Detections(found=(Detection(label="RED", score=redness, box=(0, 0, 2, 2)),))


AnyColourModel: TypeAlias = RedEmbedder | RedClassifier | RedDetector
