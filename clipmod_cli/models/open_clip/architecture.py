"""Architectures without their weights, to measure speed: operations for an image, models with random numbers.

Nothing is downloaded, and only a folder's configuration is read. Results are meaningless.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from clipmod_cli.errors import SpecError
from clipmod_cli.models.backend import OF_OPEN_CLIP, ModelSpec
from clipmod_cli.models.device.crops import CropBatches
from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.freed_memory import release_freed_memory
from clipmod_cli.models.open_clip.checkpoint import geometry_of
from clipmod_cli.models.tower.forward import build_tower
from clipmod_cli.models.tower.model import ImageTower, ModuleTower, TowerModel
from clipmod_cli.models.tower.shape import TowerShape, shape_of

log = logging.getLogger(__name__)

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

    if spec.backend.prefix not in OF_OPEN_CLIP:
        raise SpecError(
            f"random weights are for open_clip architectures and not for {spec.spec}: name its weights on "
            "this machine, without --random-weights"
        )
    if spec.path is not None:
        config, known = _read_folder(spec)
    else:
        config = open_clip.get_model_config(spec.arch)
        known = open_clip.get_pretrained_cfg(spec.arch, spec.tag) or {}
    if config is None:
        raise SpecError(f"open_clip has no architecture {spec.arch}")
    visual = _build_on_meta(config, quick_gelu=bool(known.get("quick_gelu")))
    default = asdict(PreprocessCfg(size=visual.image_size))
    return Architecture(visual, {**default, **{k: v for k, v in known.items() if k in default and v}})


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
        return iter(self._dimensions)

    def __len__(self) -> int:
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
    """A text-image model (`TextImageModel`).

    Attributes:
        width: numbers in an embedding.
    """

    width: int
    revision: str = "random weights"
    logit_scale: float = LOGIT_SCALE

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length float32 `(len(prompts), d)`, unrelated to the prompts."""
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
    """Return the model of an `open_clip:` spec with random weights.

    Raises:
        SpecError: open_clip does not know the architecture.
        SettingsError: compiling does not work on this machine.
    """
    found = architecture_of(spec)
    shape = shape_of(found.visual)
    mean, std = found.preprocess["mean"], found.preprocess["std"]
    tower: ImageTower
    if shape is not None:
        tower = build_tower(
            shape, RandomState(shape), mean=mean, std=std, placement=placement, compile=compile
        )
    else:
        tower = ModuleTower(_fill(found.visual), found.preprocess, placement)
    release_freed_memory()
    geometry = geometry_of(found.preprocess)
    height, width = geometry.crop or geometry.size
    return RandomModel(
        name=name,
        spec=spec.spec,
        geometry=geometry,
        placement=placement.with_dtype(tower.dtype),
        crops=crops or CropBatches.of(placement),
        _tower=tower,
        width=tower(torch.zeros((1, height, width, 3), dtype=torch.uint8)).shape[-1],
    )


def _fill(visual: torch.nn.Module) -> torch.nn.Module:
    """Return a module on the meta device with random parameters."""
    generator = torch.Generator().manual_seed(0)
    visual = visual.to_empty(device="cpu")
    for tensor in (*visual.parameters(), *visual.buffers()):
        if tensor.is_floating_point():
            # small and positive, as variances among the buffers have to be
            tensor.data.uniform_(0.001, 0.03, generator=generator)
        else:
            tensor.data.zero_()
    return visual


def flops_of(spec: ModelSpec, folder: Path | None = None) -> int | None:
    """Return the operations for one image (a multiplication with an addition is two); None if unknown.

    Args:
        spec: the model.
        folder: of a classifier's configuration.
    """
    try:
        if spec.backend.prefix in OF_OPEN_CLIP:
            return _of_tower(spec)
        if spec.backend.prefix == "hf" and (place := spec.path or folder) is not None:
            return _of_classifier(place)
    except Exception as e:  # noqa: BLE001 — a measurement goes on without this figure
        log.debug("cannot count the operations of %s: %s", spec.spec, e)
    return None


def _of_tower(spec: ModelSpec) -> int:
    visual = architecture_of(spec).visual
    shape = shape_of(visual)
    if shape is not None:
        return shape.flops
    size: Any = visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return count(visual, height, width)


def _of_classifier(folder: Path) -> int:
    from transformers import AutoConfig, AutoModelForImageClassification

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        auto: Any = AutoModelForImageClassification
        model = auto.from_config(config, trust_remote_code=False)
    side = getattr(config, "image_size", 224)
    height, width = (side, side) if isinstance(side, int) else side
    return count(model, height, width)


def count(module: torch.nn.Module, height: int, width: int) -> int:
    """Return the operations of a module on the meta device for one image of this size."""
    # Training mode, since the counter does not know fused inference kernels.
    module = module.train()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(torch.empty((1, 3, height, width), device="meta"))
    return counter.get_total_flops()
