"""The interface of image towers, and one tower on several devices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from clipmod_cli.models.device.transfer import DeviceResult


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
