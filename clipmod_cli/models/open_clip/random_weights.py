"""Text-image models with real architectures and random weights, to measure speed; results are meaningless.

Nothing is downloaded, and only a folder's configuration is read.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from clipmod_cli.errors import SpecError
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.device.crops import CropBatches
from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.device.memory import release_freed_memory
from clipmod_cli.models.open_clip.checkpoint import view_of
from clipmod_cli.models.tower.forward import build_tower
from clipmod_cli.models.tower.model import TowerModel
from clipmod_cli.models.tower.module import ModuleTower
from clipmod_cli.models.tower.shape import TowerShape, shape_of
from clipmod_cli.models.tower.split import ImageTower

POOL = 1 << 22
"""Random numbers that all tensors repeat; drawing billions takes a minute."""

LOGIT_SCALE = 100.0
"""The limit in training, which all large CLIPs reach."""


@dataclass(frozen=True)
class Architecture:
    """An architecture without weights.

    Attributes:
        visual: open_clip's module on the meta device.
        preprocess: open_clip's `preprocess_cfg`.
    """

    visual: torch.nn.Module
    preprocess: dict[str, Any]


def architecture_of(spec: ModelSpec) -> Architecture:
    """Return the architecture that an `open_clip:` spec names.

    Raises:
        SpecError: open_clip does not know it.
    """
    import open_clip
    from open_clip.transform import PreprocessCfg

    if spec.backend.prefix != "open_clip":
        raise SpecError(
            f"random weights are for open_clip architectures and not for {spec.spec}: name its weights on "
            "this machine, without --random-weights"
        )
    if spec.path is not None:
        config, wanted = _read_folder(spec)
    else:
        config = open_clip.get_model_config(spec.arch)
        wanted = open_clip.get_pretrained_cfg(spec.arch, spec.tag) or {}
    if config is None:
        raise SpecError(f"open_clip knows no architecture {spec.arch}")
    visual = _build_on_meta(config, quick_gelu=bool(wanted.get("quick_gelu")))
    known = asdict(PreprocessCfg(size=visual.image_size))
    return Architecture(visual, {**known, **{k: v for k, v in wanted.items() if k in known and v}})


def _read_folder(spec: ModelSpec) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    path = Path(spec.path or ".") / "open_clip_config.json"
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return read["model_cfg"], read.get("preprocess_cfg", {})
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise SpecError(f"{path} does not describe an architecture of open_clip: {e}") from e


def _build_on_meta(config: Mapping[str, Any], *, quick_gelu: bool) -> torch.nn.Module:
    from open_clip import model

    with torch.device("meta"):
        visual: torch.nn.Module = model._build_vision_tower(  # noqa: SLF001 — create_model makes numbers too
            config["embed_dim"], dict(config["vision_cfg"]), quick_gelu or bool(config.get("quick_gelu"))
        )
    return visual.eval()


class RandomState(Mapping[str, torch.Tensor]):
    """The tensors of a tower, each made on access and the same each time."""

    def __init__(self, shape: TowerShape) -> None:
        self._dimensions = dict(shape.tensors())
        self._pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0))

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return a tensor as initialised for training, so that outputs stay finite through many layers."""
        dimensions = self._dimensions[name]
        if len(dimensions) == 1 and name != "class":
            return torch.ones(dimensions) if name.endswith("weight") else torch.zeros(dimensions)
        return _draw(self._pool, name, dimensions)

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self._dimensions)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._dimensions)


def _draw(pool: torch.Tensor, name: str, dimensions: Sequence[int]) -> torch.Tensor:
    drawn = torch.empty(tuple(dimensions))
    flat = drawn.view(-1)
    rolled = pool.roll(zlib.crc32(name.encode()) % len(pool))
    for piece in torch.split(flat, len(pool)):
        piece.copy_(rolled[: len(piece)])
    fan_in = max(1, len(flat) // dimensions[0])
    return drawn.mul_(fan_in**-0.5)


@dataclass(kw_only=True)
class RandomModel(TowerModel):
    """One of them, after the seam `TextImageModel`.

    Attributes:
        width: numbers in an embedding.
    """

    width: int
    revision: str = "random weights"
    logit_scale: float = LOGIT_SCALE

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        found: Architecture,
        tower: ImageTower,
        placement: Placement,
        *,
        name: str | None = None,
        crops: CropBatches | None = None,
    ) -> Self:
        """Return the model of a tower that stands already."""
        view = view_of(found.preprocess)
        height, width = view.crop or view.size
        dimension = tower(torch.zeros((1, height, width, 3), dtype=torch.uint8)).shape[-1]
        return cls(
            name=name or spec.short_name,
            spec=spec.spec,
            view=view,
            placement=placement.with_dtype(tower.dtype),
            crops=crops or CropBatches.of(placement),
            _tower=tower,
            width=dimension,
        )

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length float32 `(len(prompts), d)`, which say nothing of the prompts."""
        return random_vectors(len(prompts), self.width)


def random_vectors(count: int, width: int) -> NDArray[np.float32]:
    """Return unit-length float32 `(count, width)`, the same each time."""
    vectors = np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def load(
    spec: ModelSpec,
    *,
    name: str,
    placement: Placement,
    crops: CropBatches | None = None,
    compile: bool = False,  # noqa: A002 — the setting's name
) -> RandomModel:
    """Return the model that an `open_clip:` spec names, with random numbers for weights.

    Raises:
        SpecError: if it names no architecture of open_clip.
        SettingsError: if compiling does not work on this machine.
    """
    found = architecture_of(spec)
    shape = shape_of(found.visual)
    mean, std = found.preprocess["mean"], found.preprocess["std"]
    tower: ImageTower
    if shape is not None:
        numbers = RandomState(shape)
        tower = build_tower(shape, numbers, mean=mean, std=std, placement=placement, compile=compile)
    else:
        tower = ModuleTower(_fill(found.visual), found.preprocess, placement)
    release_freed_memory()
    return RandomModel.of(spec, found, tower, placement, name=name, crops=crops)


def _fill(visual: torch.nn.Module) -> torch.nn.Module:
    """Return a module without numbers with random ones."""
    generator = torch.Generator().manual_seed(0)
    visual = visual.to_empty(device="cpu")
    for tensor in (*visual.parameters(), *visual.buffers()):
        if tensor.is_floating_point():
            # small and above nothing: variances among the buffers have to be positive
            tensor.data.uniform_(0.001, 0.03, generator=generator)
        else:
            tensor.data.zero_()
    return visual
