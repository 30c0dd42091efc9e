"""How one model is asked about frames: what comes back, how long it took, and what it may raise.

An ensemble asks each of its members through an `Asks`; whoever wants a model spared what is known already
gives the ensemble another one (`clipmod_cli.ensemble.cache`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from clipmod_cli.types import AsynchronousModel, Frame, Measured, Model, Seen

log = logging.getLogger(__name__)

EXHAUSTED: Final = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""How torch and the libraries under it say so where they raise no class of its own for it."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a model says of one frame.

    Attributes:
        seen: what it saw.
        forward_ms: its forward time for the batch, divided by the frames; 0.0 where it was not run.
    """

    seen: Seen
    forward_ms: float


Answers: TypeAlias = Callable[[], Sequence[Told]]
"""Waits for what a model says of the frames that it has begun with, in order."""


class Asks(Protocol):
    """Asks a model about frames."""

    def __call__(self, model: Model, frames: Sequence[Frame]) -> Sequence[Told]:
        """Return one answer for each frame, in order. Raises whatever the model raises."""
        ...

    def begin(self, model: AsynchronousModel, frames: Sequence[Frame]) -> Answers:
        """Have a model's device begin, and return what waits for the answers. Either may raise."""
        ...

    def prepare(self, model: Model, frames: Sequence[Frame]) -> None:
        """Do what can be done before the model is asked; in another thread than it is asked by."""
        ...


@dataclass(slots=True)
class AskModel:
    """Runs a model; what does not fit into its device's memory at once, in smaller batches.

    What fitted is remembered: of a thousand batches that are too large, one fails.
    """

    _most: dict[str, int] = field(default_factory=dict)

    def __call__(self, model: Model, frames: Sequence[Frame]) -> list[Told]:
        """Return what the model sees in each frame, by running it.

        Raises:
            ValueError: it answers for more or fewer frames than it was asked about.
        """
        while True:
            size = self._size_for(model, frames)
            try:
                return [told for part in _parts(frames, size) for told in _run(model, part)]
            except Exception as e:
                if size <= 1 or not is_exhausted(e):
                    raise
            # Not before the exception is gone: it holds what filled the memory.
            self._most[model.name] = size // 2
            log.warning("%s: %d pictures at once do not fit; going on with %d", model.name, size, size // 2)

    def begin(self, model: AsynchronousModel, frames: Sequence[Frame]) -> Answers:
        """Begin with as much at once as is known to fit. What does not fit raises, and is not remembered."""
        parts = list(_parts(frames, self._size_for(model, frames)))
        waiting = [model.begin(part) for part in parts]

        def tell() -> list[Told]:
            told = zip(parts, waiting, strict=True)
            return [one for part, wait in told for one in _told_of(model, part, wait())]

        return tell

    def prepare(self, model: Model, frames: Sequence[Frame]) -> None:
        """Have a model that knows how to put a batch together do so."""
        if frames and (ready := getattr(model, "prepare", None)):
            for part in _parts(frames, self._size_for(model, frames)):
                ready(part)

    def _size_for(self, model: Model, frames: Sequence[Frame]) -> int:
        return min(self._most.get(model.name, len(frames)), len(frames))


def _run(model: Model, frames: Sequence[Frame]) -> list[Told]:
    begun = time.perf_counter()
    seen = model.measure(frames)
    return _told_of(model, frames, Measured(seen, time.perf_counter() - begun))


def _told_of(model: Model, frames: Sequence[Frame], measured: Measured) -> list[Told]:
    if len(measured.seen) != len(frames):
        raise ValueError(f"{model.name} gave {len(measured.seen)} results for {len(frames)} pictures")
    forward_ms = measured.seconds * 1000 / max(len(frames), 1)
    return [Told(one, forward_ms) for one in measured.seen]


def _parts(frames: Sequence[Frame], size: int) -> Iterator[Sequence[Frame]]:
    return (frames[at : at + size] for at in range(0, len(frames), max(size, 1)))


def is_exhausted(error: BaseException) -> bool:
    """Return whether this says that there was no memory left, on a device or here."""
    # torch raises its own class for a device, MemoryError is the interpreter's; both mean the same here.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in EXHAUSTED)


def is_device_lost(error: BaseException) -> bool:
    """Return whether a device failed in a way that torch cannot mend: every call after it fails as well."""
    return type(error).__name__ == "AcceleratorError" and not is_exhausted(error)
