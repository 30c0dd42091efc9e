"""Floating-point operations of an architecture for one image, counted on the meta device."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.open_clip.random_weights import architecture_of
from clipmod_cli.models.tower.shape import shape_of

log = logging.getLogger(__name__)


def flops_of(spec: ModelSpec, folder: Path | None = None) -> int | None:
    """Return the operations for one image (a multiplication with an addition is two); None if unknown.

    Args:
        spec: the model.
        folder: of a classifier's configuration.
    """
    try:
        if spec.backend.prefix == "open_clip":
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
