"""How long models' forward passes take, alone and in batches, and how much of the device that is."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from clipmod_cli.bench.clock import stage_of, time_it
from clipmod_cli.bench.models import Loaded, folder_of
from clipmod_cli.bench.report import Forward, Stage
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.models.open_clip.flops import flops_of
from clipmod_cli.types import Evidence, Frame


@dataclass(frozen=True, slots=True)
class Pass:
    """One batch: milliseconds an image, of all models together and by model."""

    ms: float
    by_model: dict[str, float]


def look(ensemble: Ensemble, frames: Sequence[Frame]) -> Pass:
    """Return what one batch takes."""
    seen: list[object] = []
    seconds = time_it(lambda: seen.extend(ensemble.submit(frames)()))
    first = next((one for one in seen if isinstance(one, Evidence)), None)
    return Pass(seconds * 1000 / len(frames), dict(first.forward_ms) if first else {})


def look_alone(ensemble: Ensemble, frames: Sequence[Frame]) -> Pass:
    """Return what a picture alone in its batch takes, once everything is warm."""
    look(ensemble, frames[:1])
    return look(ensemble, frames[:1])


def measure_forward(
    loaded: Loaded, frames: Sequence[Frame], *, batch: int, repeats: int, alone: Pass, peak: float
) -> tuple[Stage, dict[str, Forward]]:
    """Return the stage of all models together, and each model's own figures.

    Args:
        loaded: the models.
        frames: pictures to look at, over and over.
        batch: pictures in a batch.
        repeats: batches that count; one before them does not.
        alone: what a picture alone in its batch takes.
        peak: operations a second of a large matrix product.
    """
    pictures = list(islice(cycle(frames), batch))
    if batch > 1:
        look(loaded.ensemble, pictures)
    passes = [look(loaded.ensemble, pictures) for _ in range(repeats)]
    by_name: dict[str, list[float]] = defaultdict(list)
    for one in passes:
        for name, ms in one.by_model.items():
            by_name[name].append(ms)
    models = {
        member.model.name: _of_model(
            statistics.median(by_name[member.model.name]),
            alone.by_model[member.model.name],
            flops_of(spec, folder_of(spec, loaded.hub)),
            peak,
        )
        for member, spec in zip(loaded.ensemble.members, loaded.specs, strict=True)
        if by_name[member.model.name]
    }
    return stage_of([one.ms for one in passes]), models


def _of_model(ms: float, ms_alone: float, flops: int | None, peak: float) -> Forward:
    share = None if flops is None or not ms else flops / (ms / 1000) / peak
    return Forward(
        ms=ms, ms_alone=ms_alone, gflop=None if flops is None else flops / 1e9, share_of_peak=share
    )


def work_of(models: dict[str, Forward]) -> float | None:
    """Return the operations of all models for an image; None if one's are unknown."""
    known = [model.gflop for model in models.values()]
    return None if not known or None in known else sum(g for g in known if g is not None) * 1e9
