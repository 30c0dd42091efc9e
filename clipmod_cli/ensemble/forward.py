"""One model over the frames of a batch: the evidence cache first, then forward passes that fit in memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from clipmod_cli.ensemble.cache import CacheLookup, EvidenceCache
from clipmod_cli.models.seam import ForwardPass, Model
from clipmod_cli.types import Embedding, Frame, Seen

log = logging.getLogger(__name__)

OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""What torch and the libraries under it write where they raise no class of their own for it."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One model's evidence of one frame.

    Attributes:
        seen: the evidence.
        forward_ms: the forward time of its sub-batch divided by the frames; 0.0 if it was cached, or
            computed for an equal frame.
    """

    seen: Seen
    forward_ms: float


PendingOutputs: TypeAlias = Callable[[], list[ModelOutput]]
"""Waits for a model's outputs, one for each frame in order."""


@dataclass(slots=True)
class ModelRunner:
    """Runs models, one at a time.

    What fits into memory is remembered by model: of a thousand batches that are too large, one fails.

    Attributes:
        cache: evidence of earlier runs; None runs the model on every frame.
        most: frames in one forward pass; None for as many as there are.
    """

    cache: EvidenceCache | None = None
    most: int | None = None
    _fits: dict[str, int] = field(default_factory=dict)

    def submit(self, model: Model, frames: Sequence[Frame]) -> PendingOutputs:
        """Submit the frames that are not cached, in sub-batches that are known to fit.

        This and the returned function raise what the model raises, and ValueError if it returns more or
        fewer results than frames. Out of memory raises and is not remembered.
        """
        return self._submit(model, self._look_up(model, frames))

    def run(self, model: Model, frames: Sequence[Frame]) -> list[ModelOutput]:
        """Return the model's outputs; if memory runs out, the sub-batch is halved, and that is remembered.

        Raises what `submit` raises; out of memory only if a single frame does not fit.
        """
        lookup = self._look_up(model, frames)
        while True:
            size = self._sub_batch(model, len(lookup.missing))
            try:
                return self._submit(model, lookup)()
            except Exception as e:
                if size <= 1 or not is_out_of_memory(e):
                    raise
            # Only after the exception is gone: its traceback holds the tensors that filled the memory.
            self._fits[model.name] = size // 2
            log.warning("%s: a batch of %d does not fit in memory; using %d", model.name, size, size // 2)

    def prepare(self, model: Model, frames: Sequence[Frame]) -> None:
        """Hash the frames for the cache, and have the model prepare its sub-batches."""
        missing = frames if self.cache is None else self.cache.prepare(model, frames)
        for part in self._parts(model, missing):
            model.prepare(part)

    def _look_up(self, model: Model, frames: Sequence[Frame]) -> CacheLookup:
        return CacheLookup.empty(frames) if self.cache is None else self.cache.look_up(model, frames)

    def _submit(self, model: Model, lookup: CacheLookup) -> PendingOutputs:
        parts = self._parts(model, list(lookup.missing.values()))
        pending = [model.submit(part) for part in parts]

        def collect() -> list[ModelOutput]:
            fresh = [
                output
                for part, wait in zip(parts, pending, strict=True)
                for output in _outputs(model, part, wait())
            ]
            computed = dict(zip(lookup.missing, fresh, strict=True))
            seen = {key: output.seen for key, output in computed.items()}
            if self.cache is not None:
                self.cache.store(seen)
            known = {key: ModelOutput(one, 0.0) for key, one in {**lookup.known, **seen}.items()}
            return [computed.pop(key, known[key]) for key in lookup.keys]

        return collect

    def _parts(self, model: Model, frames: Sequence[Frame]) -> list[Sequence[Frame]]:
        size = max(1, self._sub_batch(model, len(frames)))
        return [frames[at : at + size] for at in range(0, len(frames), size)]

    def _sub_batch(self, model: Model, count: int) -> int:
        """Return the frames in one forward pass: sub-batches of nearly equal size."""
        most = self._fits.get(model.name, self.most or count)
        return math.ceil(count / math.ceil(count / most)) if count else 0


def _outputs(model: Model, frames: Sequence[Frame], done: ForwardPass) -> list[ModelOutput]:
    if len(done.seen) != len(frames):
        raise ValueError(f"{model.name} gave {len(done.seen)} results for {len(frames)} pictures")
    forward_ms = done.seconds * 1000 / len(frames)
    return [ModelOutput(on_grid(seen), forward_ms) for seen in done.seen]


def on_grid(seen: Seen) -> Seen:
    """Return evidence with its embedding rounded to float16, so that stored evidence gives equal scores."""
    if isinstance(seen, Embedding):
        return Embedding(vector=seen.vector.astype(np.float16).astype(np.float32))
    return seen


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether this says that there was no memory left, on a device or on the host."""
    # torch raises its own class for a device, the interpreter MemoryError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)


def is_device_lost(error: BaseException) -> bool:
    """Return whether a device failed so that every later call of torch fails as well."""
    return type(error).__name__ == "AcceleratorError" and not is_out_of_memory(error)
