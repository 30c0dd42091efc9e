"""One batch after the other through an inference engine, or through a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import InferenceEngine
from clipmod_cli.models.seam import VisionModel
from clipmod_cli.results import Settled
from clipmod_cli.types import Evidence, Frame, Seen


def infer(
    engine: InferenceEngine,
    batches: Iterable[Sequence[Frame | Settled]],
    can_skip_rest: CanSkipRest | None = None,
) -> Iterator[Evidence | Settled]:
    """Yield the evidence, each batch submitted once the one before it was waited for."""
    for batch in batches:
        yield from engine.submit(batch, can_skip_rest)()


def seen_by_model(model: VisionModel, frames: Sequence[Frame]) -> Sequence[Seen]:
    """Return what a model sees in each frame."""
    return model.submit(frames)().seen
