"""The vision half of a text-image model, which models with any weights share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clipmod_cli.models.device.crops import CropBatches
from clipmod_cli.models.device.device import PlacedModel
from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.models.tower.split import ImageTower
from clipmod_cli.types import Embedding, Frame, View

UNIT_ERROR: Final = 1e-3
"""An embedding whose length is further from 1 is invalid, such as the zeros of a broken tower."""


@dataclass(kw_only=True)
class TowerModel(PlacedModel):
    """The half of a `TextImageModel` that embeds pictures.

    Attributes:
        crops: stacks the crops of a batch, for all models with the same view.
    """

    name: str
    spec: str
    view: View
    crops: CropBatches
    _tower: ImageTower = field(repr=False)
    kind: Literal["text-image"] = "text-image"

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Stack the crops of a batch that will be submitted."""
        self.crops.take(frames, self.view)

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        """Start a forward pass; its results are unit-length embeddings, float32 `(d,)`."""
        wait = self._tower.submit(self.crops.take(frames, self.view))

        def collect() -> ForwardPass:
            computed = wait()
            return ForwardPass(embeddings_of(computed.result), computed.seconds)

        return collect


def embeddings_of(computed: torch.Tensor) -> list[Embedding]:
    """Return a tower's output `(B, d)` as embeddings; those that are not of unit length become NaN."""
    vectors: NDArray[np.float32] = computed.numpy()  # (B, d)
    lengths = np.linalg.norm(vectors, axis=1)
    invalid = ~(np.abs(lengths - 1.0) <= UNIT_ERROR)
    if invalid.any():
        vectors = np.where(invalid[:, None], np.float32(np.nan), vectors)
    return [Embedding(vector=vector) for vector in vectors]
