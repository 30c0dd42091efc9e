"""open_clip's own towers with seeded numbers, ours with the same, pictures, and what to compare them by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from open_clip.transformer import VisionTransformer
from torch.nn import functional

from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.tower.forward import VisionTower, build_tower
from clipmod_cli.models.tower.shape import TowerShape, shape_of, state_of

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CPU = torch.device("cpu")
SMALL: Mapping[str, Any] = {
    "image_size": 64,
    "patch_size": 16,
    "width": 64,
    "layers": 3,
    "heads": 4,
    "mlp_ratio": 4.0,
    "output_dim": 32,
}


def module(**options: Any) -> VisionTransformer:
    """Return open_clip's tower with seeded weights, none of them at a value that hides a mistake."""
    torch.manual_seed(0)
    visual = VisionTransformer(**{**SMALL, **options}).eval().requires_grad_(False)
    for name, tensor in visual.named_parameters():
        if name.endswith(("bias", "gamma")) or ".ln_" in name or name.startswith("ln_"):
            tensor.add_(0.1 * torch.randn_like(tensor))
    return visual


def parts(visual: torch.nn.Module) -> tuple[TowerShape, dict[str, torch.Tensor]]:
    """Return shape and tensors of a tower that we can compute."""
    shape = shape_of(visual)
    assert shape is not None
    return shape, state_of(visual)


def tower(visual: torch.nn.Module, dtype: torch.dtype = torch.float32, **changes: Any) -> VisionTower:
    """Return ours with the same numbers."""
    shape, state = parts(visual)
    built = build_tower(shape, state, mean=MEAN, std=STD, placement=Placement(CPU, dtype), **changes)
    assert isinstance(built, VisionTower)
    return built


def crops(count: int, height: int = 64, width: int = 64) -> torch.Tensor:
    """Return seeded uint8 pictures: noise, and noise around a colour."""
    numbers = np.random.default_rng(count)
    noise = numbers.integers(0, 256, (count, height, width, 3))
    noise[::2] = noise[::2] // 4 + numbers.integers(0, 192, (len(noise[::2]), 1, 1, 3))
    return torch.from_numpy(noise.astype(np.uint8))


def crops_for(visual: VisionTransformer, count: int = 5) -> torch.Tensor:
    """Return pictures of the tower's size."""
    height, width = visual.image_size
    return crops(count, height, width)


def by_open_clip(visual: torch.nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Return the unit-length embeddings that open_clip's own module gives, in float32."""
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        out = visual((pictures.permute(0, 3, 1, 2).float() / 255 - mean) / std)
        return functional.normalize(out[0] if isinstance(out, tuple) else out, dim=-1)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest 1 - cosine; it is NaN where a number is."""
    return float((1 - functional.cosine_similarity(one.double(), other.double(), dim=-1)).max())


def operations(ours: Callable[[torch.Tensor], object], pictures: torch.Tensor) -> Counter[str]:
    """Return how often each operation is done, those within others too."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        ours(pictures)
    counted = {event.key: event.count for event in profile.key_averages()}
    return Counter({name: count for name, count in counted.items() if "::" in name})
