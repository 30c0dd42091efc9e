"""What the tests of 16-bit towers share: tiny models with weights of their own, loaded again each time."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.open_clip import model as open_clip
from clipmod_cli.models.open_clip.source import OpenClipSource
from clipmod_cli.models.open_clip.text_cache import TextCache
from clipmod_cli.models.tower import tower_file
from clipmod_cli.models.tower.storage import TowerLocation
from clipmod_cli.models.tower.tower_file import TowerFile
from tests.models import backends

PLACEMENTS = {name: Placement(torch.device("cpu"), getattr(torch, name)) for name in ("float32", "bfloat16")}
both = pytest.mark.parametrize("dtype", PLACEMENTS)


def save(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """Write a tiny CLIP with changed weights, and return its folder."""
    folder.mkdir(parents=True)
    tiny = backends.TINY / "tiny-l"
    (folder / "open_clip_config.json").write_bytes((tiny / "open_clip_config.json").read_bytes())
    tensors = load_file(tiny / "open_clip_model.safetensors")
    changed = {name: change(tensor).contiguous() for name, tensor in tensors.items()}
    save_file(changed, folder / "open_clip_model.safetensors")
    return folder


def trembling(seed: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a change after which float16 no longer holds the very weights."""
    generator = torch.Generator().manual_seed(seed)
    return lambda tensor: tensor.float() * (1 + 1e-3 * torch.rand(tensor.shape, generator=generator))


def path_of(source: OpenClipSource) -> Path:
    return source.location.path


def kept(source: OpenClipSource) -> TowerFile:
    file = tower_file.read(path_of(source), source.revision)
    assert file is not None
    return file


def see(source: OpenClipSource, dtype: str) -> NDArray[np.float32]:
    """Return what the model, loaded again, makes of some pictures."""
    model = load(source, dtype)
    return model._tower(pictures_for(model)).numpy()


def load(source: OpenClipSource, dtype: str) -> open_clip.OpenClipModel:
    """Return the model, loaded again on the CPU."""
    text = TextCache(Path(os.environ["XDG_CACHE_HOME"]) / "text", source.revision)
    return open_clip.load(source, name="a", spec="a", placement=PLACEMENTS[dtype], cache=text)


def pictures_for(model: open_clip.OpenClipModel) -> torch.Tensor:
    """Return some pictures of the size that the model wants, the same each time."""
    generator = torch.Generator().manual_seed(0)
    height, width = model.geometry.crop or model.geometry.size
    return torch.randint(0, 256, (3, height, width, 3), generator=generator, dtype=torch.uint8)


def without_file(source: OpenClipSource) -> OpenClipSource:
    """Return the source where no file can be stored."""
    nowhere = Path("/dev/null/none")
    return replace(source, location=TowerLocation(path=nowhere, lock_path=nowhere))


def lost(source: OpenClipSource, tmp_path: Path) -> OpenClipSource:
    """Return the source after its weights went away, to tell whether they are read."""
    return replace(source, weights=tmp_path / "nowhere.safetensors")
