"""A vision tower that is computed by open_clip's own module, on one device: any architecture there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from clipmod_cli.models.device import Placement
from clipmod_cli.models.vision_tower import plain


def module_tower(
    visual: torch.nn.Module, preprocess: Mapping[str, Any], placement: Placement
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what turns uint8 crops `(B, H, W, 3)` into unit-length float32 `(B, d)`, both on the CPU.

    Args:
        visual: open_clip's module; it is moved to the placement's first device.
        preprocess: open_clip's settings for pictures.
        placement: where, and in what precision.
    """
    device, dtype = placement.device, placement.dtype
    visual = visual.to(device, dtype).eval()
    mean, std = (
        torch.tensor(preprocess[key], dtype=torch.float32, device=device).reshape(1, 3, 1, 1)
        for key in ("mean", "std")
    )

    def look(crops: torch.Tensor) -> torch.Tensor:
        pixels = crops.to(device).permute(0, 3, 1, 2).float().div_(255)  # (B, 3, H, W)
        out = visual(((pixels - mean) / std).to(dtype))
        pooled = out[0] if isinstance(out, tuple) else out
        return torch.nn.functional.normalize(pooled.float(), dim=-1).cpu()

    def embed(crops: torch.Tensor) -> torch.Tensor:
        with plain(device):
            return torch.cat([look(share) for share in torch.split(crops, placement.share_of(len(crops)))])

    return embed
