"""One tower on several devices: a batch is split among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from clipmod_cli.models.device.transfer import DeviceResult


class ImageTower(Protocol):
    """What turns uint8 crops `(B, H, W, 3)` into unit-length embeddings, float32 `(B, d)`."""

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        ...

    def submit(self, crops: torch.Tensor, /) -> Callable[[], DeviceResult]:
        """Begin, and return what waits for the embeddings; a CUDA device computes meanwhile."""
        ...

    def __call__(self, crops: torch.Tensor, /) -> torch.Tensor:
        """Return the embeddings, on the CPU."""
        ...


class SplitTower:
    """The same tower on several devices; each takes an equal share of a batch.

    There are no threads: a CUDA device is given its work and computes on its own, so that all of them
    are at work before the first result is waited for.
    """

    def __init__(self, towers: Sequence[ImageTower]) -> None:
        self._towers = list(towers)

    @property
    def dtype(self) -> torch.dtype:
        """What all of them compute in."""
        return self._towers[0].dtype

    def submit(self, crops: torch.Tensor) -> Callable[[], DeviceResult]:
        """Begin with uint8 `(B, H, W, 3)` on all devices, and return what waits for all embeddings."""
        shares = crops.tensor_split(len(self._towers))
        waiting = [
            tower.submit(share)
            for tower, share in zip(self._towers, shares, strict=True)
            if len(share) or len(crops) == 0
        ]
        return lambda: _join([wait() for wait in waiting])

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Return the unit-length embeddings, float32 `(B, d)` on the CPU, in the crops' order."""
        return self.submit(crops)().result


def _join(shares: Sequence[DeviceResult]) -> DeviceResult:
    # They compute at the same time, so the longest is what it took.
    return DeviceResult(torch.cat([one.result for one in shares]), max(one.seconds for one in shares))
