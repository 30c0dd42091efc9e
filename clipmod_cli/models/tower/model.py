"""How a vision tower looks at frames: what models with such a tower share, whatever their weights are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from clipmod_cli.models.device.crops import CropBatches
from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.tower.split import ImageTower
from clipmod_cli.types import Embedding, Frame, Measured, Seen, View

UNIT_ERROR: Final = 1e-3
"""An embedding whose length is further from 1 says nothing: a tower that gives only zeros does it."""


@dataclass(kw_only=True)
class TowerModel:
    """The half of a text-image model that looks.

    Attributes:
        name: in records.
        spec: what names it.
        view: the geometry that the tower wants.
        placement: where it computes, in the precision that it has taken.
        crops: where batches are put together, shared with others that want the same view.
    """

    name: str
    spec: str
    view: View
    placement: Placement
    crops: CropBatches
    _tower: ImageTower = field(repr=False)

    @property
    def is_asynchronous(self) -> bool:
        """Whether its device computes on its own."""
        return self.placement.device.type == "cuda"

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Put a batch together that will be measured next; any thread may do that."""
        self.crops.take(frames, self.view)

    def measure(self, frames: Sequence[Frame]) -> Sequence[Seen]:
        """Return the unit-length image embedding of each frame, float32 `(d,)`."""
        return self.begin(frames)().seen

    def begin(self, frames: Sequence[Frame]) -> Callable[[], Measured]:
        """Have the device begin, and return what waits for the embeddings."""
        wait = self._tower.submit(self.crops.take(frames, self.view))

        def tell() -> Measured:
            computed = wait()
            return Measured(embeddings_of(computed.result), computed.seconds)

        return tell


def embeddings_of(computed: torch.Tensor) -> list[Embedding]:
    """Return what a tower computed as embeddings, float32 `(d,)`; not finite where not of unit length."""
    vectors: NDArray[np.float32] = computed.numpy()  # (B, d)
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = ~(np.abs(lengths - 1.0) <= UNIT_ERROR)
    if wrong.any():
        vectors = np.where(wrong[:, None], np.float32(np.nan), vectors)
    return [Embedding(vector=vector) for vector in vectors]
