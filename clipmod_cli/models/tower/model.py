"""Towers behind one interface (several devices, open_clip's own module), and the vision half of a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from clipmod_cli.models.device.crops import CropBatches
from clipmod_cli.models.device.device import PlacedModel, Placement
from clipmod_cli.models.device.transfer import DeviceResult, inference, send, submit_work
from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.types import Embedding, Frame, Geometry

UNIT_ERROR: Final = 1e-3
"""An embedding whose length is further from 1 is invalid, such as the zeros of a broken tower."""


@dataclass(kw_only=True)
class TowerModel(PlacedModel):
    """The half of a `TextImageModel` that embeds pictures.

    Attributes:
        crops: stacks the crops of a batch, for all models with the same geometry.
    """

    name: str
    spec: str
    geometry: Geometry
    crops: CropBatches
    _tower: ImageTower = field(repr=False)
    kind: Literal["text-image"] = "text-image"

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Stack the crops of a batch that will be submitted."""
        self.crops.take(frames, self.geometry)

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        """Start a forward pass; its results are unit-length embeddings, float32 `(d,)`."""
        wait = self._tower.submit(self.crops.take(frames, self.geometry))

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


class ImageTower(Protocol):
    """Computes unit-length embeddings, float32 `(B, d)` on the CPU, of uint8 crops `(B, H, W, 3)`.

    Attributes:
        dtype: the precision it computes in.
    """

    dtype: torch.dtype

    @abstractmethod
    def submit(self, crops: torch.Tensor, /) -> Callable[[], DeviceResult]:
        """Submit the crops and return a function that waits for their embeddings; CUDA is asynchronous."""

    def __call__(self, crops: torch.Tensor, /) -> torch.Tensor:
        """Return the embeddings."""
        return self.submit(crops)().result


class SplitTower(ImageTower):
    """The same tower on several devices; each takes an equal share of a batch.

    There are no threads: CUDA is asynchronous, so all devices compute before the first result is read.
    """

    def __init__(self, towers: Sequence[ImageTower]) -> None:
        self._towers = list(towers)
        self.dtype = self._towers[0].dtype

    def submit(self, crops: torch.Tensor, /) -> Callable[[], DeviceResult]:
        """Submit a share of the crops to each device; embeddings come in the crops' order."""
        shares = crops.tensor_split(len(self._towers))
        pending = [
            tower.submit(share)
            for tower, share in zip(self._towers, shares, strict=True)
            if len(share) or len(crops) == 0
        ]
        return lambda: _join([wait() for wait in pending])


def _join(shares: Sequence[DeviceResult]) -> DeviceResult:
    # The devices compute at the same time, so the longest time counts.
    return DeviceResult(torch.cat([one.result for one in shares]), max(one.seconds for one in shares))


class ModuleTower(ImageTower):
    """A tower that calls open_clip's module.

    Args:
        visual: open_clip's module; it is moved to the placement's first device.
        preprocess: open_clip's `preprocess_cfg`.
        placement: device and precision.
    """

    def __init__(self, visual: torch.nn.Module, preprocess: Mapping[str, Any], placement: Placement) -> None:
        self.dtype = placement.dtype
        self._placement = placement
        self._visual = visual.to(placement.device, placement.dtype).eval()
        self._mean, self._std = (
            torch.tensor(preprocess[key], dtype=torch.float32, device=placement.device).reshape(1, 3, 1, 1)
            for key in ("mean", "std")
        )

    def submit(self, crops: torch.Tensor, /) -> Callable[[], DeviceResult]:
        """Submit the crops and return a function that waits for their embeddings."""
        device = self._placement.device
        with inference(device):
            shares = torch.split(send(crops, device), self._placement.share_of(len(crops)))
            return submit_work(device, lambda: torch.cat([self._embed(share) for share in shares]))

    def _embed(self, crops: torch.Tensor) -> torch.Tensor:
        pixels = crops.permute(0, 3, 1, 2).float().div_(255)  # (B, 3, H, W)
        out = self._visual(((pixels - self._mean) / self._std).to(self.dtype))
        pooled = out[0] if isinstance(out, tuple) else out
        return torch.nn.functional.normalize(pooled.float(), dim=-1)
