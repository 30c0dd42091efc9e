"""From a model's source to its vision tower: by its 16-bit file where that may be used, else by the weights.

Whoever finds that file missing writes it, once. What computes is `models.vision_tower`; an architecture
that it does not know stays open_clip's own module.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.device.memory import release_freed_memory
from clipmod_cli.models.hub.client import DownloadProgress
from clipmod_cli.models.open_clip.checkpoint import Vision, check_numbers, load_vision, open_checkpoint
from clipmod_cli.models.open_clip.source import OpenClipSource, check_weights
from clipmod_cli.models.tower import split, tower_file
from clipmod_cli.models.tower.forward import build_tower, shape_of, state_of
from clipmod_cli.models.tower.mapped import SequentialReader
from clipmod_cli.models.tower.module import ModuleTower
from clipmod_cli.models.tower.storage import keep, touch
from clipmod_cli.models.tower.tower_file import TowerInfo

log = logging.getLogger(__name__)

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTower:
    """A tower on its device.

    Attributes:
        placement: with the precision that it took in the end.
        preprocess: open_clip's settings for pictures.
        logit_scale: what cosines are multiplied with.
    """

    embed: split.ImageTower
    placement: Placement
    preprocess: Mapping[str, Any]
    logit_scale: float


def load_tower(source: OpenClipSource, placement: Placement, *, compile: bool = False) -> LoadedTower:  # noqa: A002
    """Return the tower of these weights.

    With `--dtype float32` its numbers are the checkpoint's. Otherwise they are those that a 16-bit file
    holds, whether there is one or not.

    Raises:
        MissingModelError: if the weights cannot be read or do not fit the architecture.
        SettingsError: if compiling does not work on this machine.
    """
    exact = placement.candidates[0] == torch.float32
    found = _find(source, exact=exact)
    if found is None:
        vision = load_vision(source)
        about = _describe(source, vision)
        if about is None:
            return _as_it_is(source, vision, placement, compile=compile)
        numbers = state_of(vision.visual)
        del vision  # or its numbers would be here in both precisions
        found = _make(source, about, numbers, exact=exact)
    tower = _build(*found, placement, compile=compile)
    del found
    release_freed_memory()
    return tower


def _build(about: TowerInfo, state: State, placement: Placement, *, compile: bool) -> LoadedTower:  # noqa: A002
    """Return the tower of these tensors; none of them is kept."""
    tower = build_tower(
        about.shape,
        state,
        mean=about.preprocess["mean"],
        std=about.preprocess["std"],
        placement=placement,
        compile=compile,
    )
    if isinstance(state, SequentialReader):
        state.close()
    return LoadedTower(
        embed=tower,
        placement=placement.settled(tower.dtype),
        preprocess=about.preprocess,
        logit_scale=about.logit_scale,
    )


def keep_tower(source: OpenClipSource, progress: DownloadProgress) -> None:
    """Write the 16-bit tower if it is not there as the weights give it; at best effort.

    Raises:
        MissingModelError: if the weights cannot be read.
    """
    if source.place is None:
        return
    known = tower_file.read(source.place.path, source.revision)
    if known and known.about.whole and not tower_problems(source):
        return
    progress.say(f"writing the 16-bit vision tower of {source.model_name} to {source.place.path}")
    vision = load_vision(source)
    about = _describe(source, vision)
    if about is None:
        progress.say(f"{source.model_name} is no standard vision transformer: it stays as it is")
        return
    numbers = state_of(vision.visual)
    del vision
    keep(source.place, *_narrowed(about, numbers), wait=True)


def tower_problems(source: OpenClipSource) -> list[str]:
    """Return what is wrong with the 16-bit tower beside the checkpoint that it was made of; it may lack.

    Raises:
        MissingModelError: if the weights cannot be read.
    """
    if source.place is None or not source.place.path.exists():
        return []
    known = tower_file.read(source.place.path, source.revision)
    if known is not None and not known.about.whole:
        return []
    kept = known.state() if known else None
    if known is None or kept is None:
        return [f"{source.place.path} is damaged or not of these weights (it is not used)"]
    vision = load_vision(source)
    about = _describe(source, vision)
    if about is None:
        return [f"{source.place.path} is of another architecture"]
    wrong = [
        name
        for name, tensor in state_of(vision.visual).items()
        if not torch.equal(tower_file.narrow(name, tensor), kept[name])
    ]
    if wrong or replace(about, whole=True, lossless=known.about.lossless) != known.about:
        which = ", ".join(wrong[:3]) or "settings"
        return [f"{source.place.path} is not what its weights give ({which})"]
    return []


def _find(source: OpenClipSource, *, exact: bool) -> tuple[TowerInfo, State] | None:
    """Return the tower by its file, if that is enough for this precision."""
    known = tower_file.read(source.place.path, source.revision) if source.place else None
    if source.place is None or known is None:
        return None
    touch(source.place)
    if exact and not known.about.lossless:
        state: State | None = _of_checkpoint(known.about, source)
    else:
        state = known.state()
    return None if state is None else (known.about, state)


def _of_checkpoint(about: TowerInfo, source: OpenClipSource) -> State | None:
    """Return the checkpoint's own numbers, in float32; None if it is not as it was described.

    Raises:
        MissingModelError: it is not what was downloaded, or its numbers are not all finite.
    """
    state = {}
    try:
        check_weights(source)
        tensors = open_checkpoint(source.weights)
        for name, shape in about.shape.tensors():
            tensor = tensors[about.names[name]]
            if tensor.shape != shape:
                return None
            # a copy: the file is the user's, who may write into it
            state[name] = tensor.to(torch.float32, copy=True)
            check_numbers(state[name], name, source.weights)
    except (OSError, ValueError, KeyError) as e:
        log.debug("%s: %s", source.weights, e)
        return None
    return state


def _make(
    source: OpenClipSource, about: TowerInfo, state: dict[str, torch.Tensor], *, exact: bool
) -> tuple[TowerInfo, State]:
    """Return the tower by the checkpoint's tensors, and keep what can be kept of it; empties `state`."""
    if exact and not all(tower_file.is_lossless(name, tensor) for name, tensor in state.items()):
        if about.names:
            keep(source.place, about, {}, wait=False)
        return about, state
    about, narrowed = _narrowed(about, state)
    if keep(source.place, about, narrowed, wait=False):
        return _find(source, exact=exact) or (about, narrowed)
    return about, narrowed


def _narrowed(about: TowerInfo, state: dict[str, torch.Tensor]) -> tuple[TowerInfo, dict[str, torch.Tensor]]:
    """Return the tower as a file holds it; takes the tensors from `state`, so that none is there twice."""
    narrowed, lossless = {}, True
    for name in list(state):
        tensor = state.pop(name)
        narrowed[name] = tower_file.narrow(name, tensor)
        lossless = lossless and torch.equal(narrowed[name].float(), tensor)
    return replace(about, whole=True, lossless=lossless), narrowed


def _describe(source: OpenClipSource, vision: Vision) -> TowerInfo | None:
    """Return what is to be known of a tower besides its numbers; None if we cannot compute it."""
    shape = shape_of(vision.visual)
    if shape is None:
        return None
    places = {tensor.data_ptr(): name for name, tensor in vision.visual.named_parameters()}
    ours = {name: places.get(tensor.data_ptr()) for name, tensor in state_of(vision.visual).items()}
    names = {name: f"visual.{theirs}" for name, theirs in ours.items() if theirs}
    return TowerInfo(
        revision=source.revision,
        shape=shape,
        preprocess=_plain(vision.preprocess),
        logit_scale=vision.logit_scale,
        lossless=False,
        names=names if vision.direct and len(names) == len(ours) else {},
        whole=False,
    )


def _plain(preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as JSON gives them back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in preprocess.items()}


def _as_it_is(source: OpenClipSource, vision: Vision, placement: Placement, *, compile: bool) -> LoadedTower:  # noqa: A002
    """Return open_clip's own module as a tower."""
    if compile:
        log.warning("--compile: %s is no standard vision transformer and is not compiled", source.model_name)
    return LoadedTower(
        embed=ModuleTower(vision.visual, vision.preprocess, placement),
        placement=placement.settled(placement.dtype),
        preprocess=vision.preprocess,
        logit_scale=vision.logit_scale,
    )
