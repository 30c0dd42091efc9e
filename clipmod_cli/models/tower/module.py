"""A vision tower that is computed by open_clip's own module, on one device: any architecture there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.device.transfer import DeviceResult, send, submit_work
from clipmod_cli.models.tower.forward import plain


class ModuleTower:
    """What turns uint8 crops `(B, H, W, 3)` into unit-length float32 `(B, d)`, both on the CPU.

    Args:
        visual: open_clip's module; it is moved to the placement's first device.
        preprocess: open_clip's settings for pictures.
        placement: where, and in what precision.
    """

    def __init__(self, visual: torch.nn.Module, preprocess: Mapping[str, Any], placement: Placement) -> None:
        self.dtype = placement.dtype
        self._placement = placement
        self._visual = visual.to(placement.device, placement.dtype).eval()
        self._mean, self._std = (
            torch.tensor(preprocess[key], dtype=torch.float32, device=placement.device).reshape(1, 3, 1, 1)
            for key in ("mean", "std")
        )

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Return the crops' embeddings, on the CPU."""
        return self.submit(crops)().result

    def submit(self, crops: torch.Tensor) -> Callable[[], DeviceResult]:
        """Begin, and return what waits for the embeddings; a CUDA device computes meanwhile."""
        device = self._placement.device
        with plain(device):
            shares = torch.split(send(crops, device), self._placement.share_of(len(crops)))
            return submit_work(device, lambda: torch.cat([self._look(share) for share in shares]))

    def _look(self, crops: torch.Tensor) -> torch.Tensor:
        pixels = crops.permute(0, 3, 1, 2).float().div_(255)  # (B, 3, H, W)
        out = self._visual(((pixels - self._mean) / self._std).to(self.dtype))
        pooled = out[0] if isinstance(out, tuple) else out
        return torch.nn.functional.normalize(pooled.float(), dim=-1)
