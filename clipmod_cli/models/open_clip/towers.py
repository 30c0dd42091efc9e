"""Loads a model's vision tower from its 16-bit file if that is valid, otherwise from the weights.

A missing 16-bit file is written. `tower.forward` computes the standard architecture, open_clip's own module
any other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from clipmod_cli.errors import SettingsError
from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.freed_memory import release_freed_memory
from clipmod_cli.models.hub.client import DownloadProgress
from clipmod_cli.models.open_clip.checkpoint import (
    VisualHalf,
    check_numbers,
    load_vision,
    open_checkpoint,
)
from clipmod_cli.models.open_clip.source import OpenClipSource, check_weights
from clipmod_cli.models.tower import tower_file
from clipmod_cli.models.tower.forward import build_tower
from clipmod_cli.models.tower.mapped import MappedFile
from clipmod_cli.models.tower.model import ImageTower, ModuleTower
from clipmod_cli.models.tower.shape import shape_of, state_of
from clipmod_cli.models.tower.storage import mark_used, store
from clipmod_cli.models.tower.tower_file import TowerInfo

log = logging.getLogger(__name__)

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTower:
    """A tower on its device.

    Attributes:
        placement: with the precision that was selected.
        preprocess: open_clip's `preprocess_cfg`.
        logit_scale: factor of cosines.
    """

    embed: ImageTower
    placement: Placement
    preprocess: Mapping[str, Any]
    logit_scale: float


def load_tower(source: OpenClipSource, placement: Placement, *, compile: bool = False) -> LoadedTower:  # noqa: A002
    """Return the tower of these weights.

    With `--dtype float32` its numbers are the checkpoint's, otherwise those of a 16-bit file, even if
    none can be written.

    Raises:
        MissingModelError: the weights cannot be read or do not fit the architecture.
        SettingsError: compiling does not work on this machine, or int8 not for this architecture.
    """
    exact = placement.candidates[0] == torch.float32
    found = _read_file(source, exact=exact)
    if found is None:
        vision = load_vision(source)
        info = _describe(source, vision)
        if info is None:
            return _module_tower(source, vision, placement, compile=compile)
        state = state_of(vision.visual)
        del vision  # so that its tensors can be freed one by one
        found = _convert(source, info, state, exact=exact)
    info, tensors = found
    mean, std = info.preprocess["mean"], info.preprocess["std"]
    tower = build_tower(info.shape, tensors, mean=mean, std=std, placement=placement, compile=compile)
    if isinstance(tensors, MappedFile):
        tensors.release_recent()
    del found, tensors
    release_freed_memory()
    return LoadedTower(
        embed=tower,
        placement=placement.with_dtype(tower.dtype),
        preprocess=info.preprocess,
        logit_scale=info.logit_scale,
    )


def save_tower(source: OpenClipSource, progress: DownloadProgress) -> None:
    """Write the 16-bit tower unless a valid one exists; a disk that is full is logged.

    Raises:
        MissingModelError: the weights cannot be read.
    """
    known = tower_file.read(source.location.path, source.revision)
    if known and known.info.whole and not tower_problems(source):
        return
    progress.say(f"writing the 16-bit vision tower of {source.model_name} to {source.location.path}")
    vision = load_vision(source)
    info = _describe(source, vision)
    if info is None:
        progress.say(f"{source.model_name} is not a standard vision transformer: no 16-bit tower is written")
        return
    state = state_of(vision.visual)
    del vision
    store(source.location, *_narrow(info, state), wait=True)


def tower_problems(source: OpenClipSource) -> list[str]:
    """Return how the 16-bit tower differs from its checkpoint; empty without a difference or without a file.

    Raises:
        MissingModelError: the weights cannot be read.
    """
    if not source.location.path.exists():
        return []
    known = tower_file.read(source.location.path, source.revision)
    if known is not None and not known.info.whole:
        return []
    state = known.state() if known else None
    if known is None or state is None:
        return [f"{source.location.path} is damaged or was made of other weights (it is not used)"]
    vision = load_vision(source)
    info = _describe(source, vision)
    if info is None:
        return [f"{source.location.path} is of another architecture"]
    wrong = [
        name
        for name, tensor in state_of(vision.visual).items()
        if not torch.equal(tower_file.narrow(name, tensor), state[name])
    ]
    if wrong or replace(info, whole=True, lossless=known.info.lossless) != known.info:
        which = ", ".join(wrong[:3]) or "settings"
        return [f"{source.location.path} differs from its weights ({which})"]
    return []


def _read_file(source: OpenClipSource, *, exact: bool) -> tuple[TowerInfo, State] | None:
    """Return the tower of the 16-bit file, None if there is no valid one or it lacks the precision."""
    known = tower_file.read(source.location.path, source.revision)
    if known is None:
        return None
    mark_used(source.location)
    if exact and not known.info.lossless:
        state: State | None = _read_checkpoint(known.info, source)
    else:
        state = known.state()
    return None if state is None else (known.info, state)


def _read_checkpoint(info: TowerInfo, source: OpenClipSource) -> State | None:
    """Return the checkpoint's tensors in float32; None if it differs from the description.

    Raises:
        MissingModelError: it was changed after the download, or its numbers are not finite.
    """
    state = {}
    try:
        check_weights(source)
        tensors = open_checkpoint(source.weights)
        for name, shape in info.shape.tensors():
            tensor = tensors[info.names[name]]
            if tensor.shape != shape:
                return None
            # a copy, since the user may write to the file
            state[name] = tensor.to(torch.float32, copy=True)
            check_numbers(state[name], name, source.weights)
    except (OSError, ValueError, KeyError) as e:
        log.debug("%s: %s", source.weights, e)
        return None
    return state


def _convert(
    source: OpenClipSource, info: TowerInfo, state: dict[str, torch.Tensor], *, exact: bool
) -> tuple[TowerInfo, State]:
    """Return the tower of the checkpoint's tensors and write its 16-bit file; empties `state`."""
    if exact and not all(tower_file.is_lossless(name, tensor) for name, tensor in state.items()):
        if info.names:
            store(source.location, info, {}, wait=False)
        return info, state
    info, narrowed = _narrow(info, state)
    if store(source.location, info, narrowed, wait=False):
        return _read_file(source, exact=exact) or (info, narrowed)
    return info, narrowed


def _narrow(info: TowerInfo, state: dict[str, torch.Tensor]) -> tuple[TowerInfo, dict[str, torch.Tensor]]:
    """Return the tower as a file stores it; removes each tensor from `state` when it is converted."""
    narrowed, lossless = {}, True
    for name in list(state):
        tensor = state.pop(name)
        narrowed[name] = tower_file.narrow(name, tensor)
        lossless = lossless and torch.equal(narrowed[name].float(), tensor)
    return replace(info, whole=True, lossless=lossless), narrowed


def _describe(source: OpenClipSource, vision: VisualHalf) -> TowerInfo | None:
    """Return the metadata of a tower; None if its architecture is not supported."""
    shape = shape_of(vision.visual)
    if shape is None:
        return None
    places = {tensor.data_ptr(): name for name, tensor in vision.visual.named_parameters()}
    ours = {name: places.get(tensor.data_ptr()) for name, tensor in state_of(vision.visual).items()}
    names = {name: f"visual.{theirs}" for name, theirs in ours.items() if theirs}
    return TowerInfo(
        revision=source.revision,
        shape=shape,
        # as after JSON
        preprocess={k: list(v) if isinstance(v, tuple) else v for k, v in vision.preprocess.items()},
        logit_scale=vision.logit_scale,
        lossless=False,
        names=names if vision.direct and len(names) == len(ours) else {},
        whole=False,
    )


def _module_tower(
    source: OpenClipSource,
    vision: VisualHalf,
    placement: Placement,
    *,
    compile: bool,  # noqa: A002
) -> LoadedTower:
    if placement.dtype == torch.int8:
        raise SettingsError(
            f"{source.model_name} is no standard vision transformer: it has no form in 8 bits"
        )
    if compile:
        log.warning(
            "--compile: %s is not a standard vision transformer and is not compiled", source.model_name
        )
    return LoadedTower(
        embed=ModuleTower(vision.visual, vision.preprocess, placement),
        placement=placement.with_dtype(placement.dtype),
        preprocess=vision.preprocess,
        logit_scale=vision.logit_scale,
    )
