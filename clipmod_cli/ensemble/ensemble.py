"""An ensemble: models with weights that take frames and give evidence. Knows no policy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, TypeAlias

from clipmod_cli.ensemble.batch import BatchRunner, CanSkipRest
from clipmod_cli.ensemble.cache import EvidenceCache, EvidenceLru
from clipmod_cli.ensemble.forward import ModelRunner
from clipmod_cli.models.seam import Model, NamedModel
from clipmod_cli.results import Settled
from clipmod_cli.types import Evidence, Frame, Geometry

PendingEvidence: TypeAlias = Callable[[], Iterable[Evidence | Settled]]
"""Waits for the evidence of every frame of a batch, in order; what is settled passes through in its place."""


class InferenceEngine(Protocol):
    """What turns batches of frames into evidence: an `Ensemble`, or one that many callers share."""

    @property
    def geometries(self) -> tuple[Geometry, ...]:
        """The geometries that the models take, each once."""
        ...

    @property
    def batch_size(self) -> int:
        """Frames in one forward pass."""
        ...

    def prepare_batch(self, batch: Sequence[Frame | Settled]) -> None:
        """Prepare a batch that will be submitted, in another thread. Changes no result, raises nothing."""
        ...

    def submit(
        self, batch: Sequence[Frame | Settled], can_skip_rest: CanSkipRest | None = None
    ) -> PendingEvidence:
        """Submit a batch, and return a function that waits for its evidence.

        Batches are waited for in the order of submission, perhaps in another thread.

        Args:
            batch: frames that share forward passes, and what is settled, which keeps its place.
            can_skip_rest: called between models, for early exit; None runs all models.
        """
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A loaded model and its share of the ensemble's weight."""

    model: Model
    weight: float


@dataclass(frozen=True)
class Ensemble:
    """Models that see the same frames; weights sum to 1.

    Attributes:
        dtype: the precision that the models run in, as `bfloat16`.
        batch_size: frames in one forward pass.
        degraded: it is less than the three-model ensemble that `auto` wants.
        stand_in: the member that judges alone where another one fails at a frame; None fails the frame.
        cache: evidence of this run and of earlier ones; None has none.
        screens: with early exit, models that are asked before the members and have no weight.
        unused_screens: returns the names of those that are not asked now.
    """

    members: Sequence[Member]
    dtype: str = "float32"
    batch_size: int = 8
    degraded: bool = False
    stand_in: str | None = None
    cache: EvidenceCache | None = field(default=None, repr=False, compare=False)
    screens: Sequence[Model] = ()
    unused_screens: Callable[[], Collection[str]] = tuple
    _batches: BatchRunner = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        models = [member.model for member in self.members]
        runner = ModelRunner(self.cache, self.batch_size)
        batches = BatchRunner(models, self.stand_in, runner, screens=self.screens, unused=self.unused_screens)
        object.__setattr__(self, "_batches", batches)

    def with_duplicate_cache(self, max_bytes: int) -> Self:
        """Return the same ensemble with evidence in memory too, by which models see equal frames once."""
        storage = None if self.cache is None else self.cache.storage
        return replace(self, cache=EvidenceCache(storage, EvidenceLru(max_bytes)))

    @property
    def geometries(self) -> tuple[Geometry, ...]:
        """The geometries that the members and the screens take, each once."""
        models = [*(member.model for member in self.members), *self.screens]
        return tuple(dict.fromkeys(model.geometry for model in models))

    @property
    def identity(self) -> str:
        """Identifies models, weights and precision; part of the `run_key`."""
        return identity_of([(member.model, member.weight) for member in self.members], self.dtype)

    def prepare_batch(self, batch: Sequence[Frame | Settled]) -> None:
        """Prepare a batch; see `InferenceEngine`."""
        self._batches.prepare([one for one in batch if isinstance(one, Frame)])

    def submit(
        self, batch: Sequence[Frame | Settled], can_skip_rest: CanSkipRest | None = None
    ) -> PendingEvidence:
        """Submit a batch, and return a function that waits for its evidence; see `InferenceEngine`.

        CPU models have computed when this returns, CUDA models compute meanwhile.

        Raises:
            DeviceLostError: if a device fails for good; the returned function raises it too.
        """
        wait = self._batches.submit([one for one in batch if isinstance(one, Frame)], can_skip_rest)

        def collect() -> list[Evidence | Settled]:
            results = iter(wait())
            return [next(results) if isinstance(one, Frame) else one for one in batch]

        return collect


def identity_of(models: Sequence[tuple[NamedModel, float]], dtype: str) -> str:
    """Return what identifies models with their weights, and the precision of all."""
    parts = [f"{model.spec}@{model.revision}={weight:.6f}" for model, weight in models]
    return ",".join([*parts, dtype])


def fingerprint(*parts: str) -> str:
    """Return 16 hex digits that identify these parts together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
