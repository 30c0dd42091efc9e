"""A vision tower computed by open_clip's own module on one device, for any architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.device.transfer import DeviceResult, send, submit_work
from clipmod_cli.models.tower.forward import inference
from clipmod_cli.models.tower.split import ImageTower


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
