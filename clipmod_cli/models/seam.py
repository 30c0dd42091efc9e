"""The seam between an ensemble and a model: what a model of each kind offers. Knows no backend.

A model is called by three threads, each call by one thread at a time: one prepares batches, one submits
them, and one waits for their results, batch after batch in the order of submission.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.types import Frame, Geometry, Seen


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """The results of one forward pass.

    Attributes:
        seen: the evidence of each frame, in order.
        seconds: how long the device computed.
    """

    seen: Sequence[Seen]
    seconds: float


class NamedModel(Protocol):
    """What is known of a model, whether it is loaded or only its evidence is stored.

    Attributes:
        name: its name in records.
        spec: its spec on the command line, without weight; also the key of label maps.
        revision: identifies weights and preprocessing (a commit or a hash).
        dtype: the precision it computes in, as `bfloat16`.
    """

    name: str
    spec: str
    revision: str
    dtype: str


class ModelWithPrompts(NamedModel, Protocol):
    """The text half of a text-image model, by which its embeddings are read.

    Attributes:
        logit_scale: the factor on cosines before the softmax (already exponentiated).
    """

    kind: Literal["text-image"]
    logit_scale: float

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length float32 `(len(prompts), d)`."""
        ...


class ModelWithLabels(NamedModel, Protocol):
    """A classifier or detector by its labels."""

    @property
    def kind(self) -> Literal["classifier", "detector"]:
        """The kind of model."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """All labels it can give."""
        ...


class VisionModel(Protocol):
    """What loaded models of every kind offer.

    Attributes:
        geometry: how it wants pictures scaled and cut.
        device: where it computes, as `cpu` or `cuda:0`; the first of several.
        is_asynchronous: `submit` returns before the device has computed.
    """

    geometry: Geometry
    device: str
    is_asynchronous: bool

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Do what can be done for a batch before it is submitted, such as stacking its crops."""
        ...

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        """Start a forward pass, and return a function that waits for its results.

        A model on the CPU computes at once. Both may raise any exception of the model's library; the caller
        runs the batch again in smaller parts.
        """
        ...


class TextImageModel(VisionModel, ModelWithPrompts, Protocol):
    """A model that embeds pictures and prompts into one space; its evidence is an `Embedding`."""


class LabelModel(VisionModel, ModelWithLabels, Protocol):
    """A model with labels of its own.

    The evidence of a classifier is `LabelScores`; that of a detector is `Detections`: it lists only what it
    found, so an empty list means something.
    """


Model: TypeAlias = TextImageModel | LabelModel


class ImmediateModel(ABC):
    """Base of models that compute in the calling thread: they implement `infer`."""

    device: str = "cpu"
    dtype: str = "float32"
    is_asynchronous: bool = False

    @abstractmethod
    def infer(self, frames: Sequence[Frame]) -> Sequence[Seen]:
        """Return the evidence of each frame, in order."""

    def prepare(self, frames: Sequence[Frame]) -> None:  # noqa: B027 - optional
        """Do nothing."""

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        """Compute at once, and return a function that gives the results."""
        begun = time.perf_counter()
        seen = self.infer(frames)
        done = ForwardPass(seen, time.perf_counter() - begun)
        return lambda: done
