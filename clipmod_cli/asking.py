"""How one model is asked about frames: what comes back, and how long it took.

An ensemble asks each of its members through an `Ask`; whoever wants a model spared what is known already
gives the ensemble another one (`clipmod_cli.evidence_cache`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from clipmod_cli.types import Frame, Model, Seen


@dataclass(frozen=True, slots=True)
class Told:
    """What a model says of one frame.

    Attributes:
        seen: what it saw.
        forward_ms: its forward time for the batch, divided by the frames; 0.0 where it was not run.
    """

    seen: Seen
    forward_ms: float


Ask: TypeAlias = Callable[[Model, Sequence[Frame]], Sequence[Told]]
"""Asks a model about frames; one answer for each, in order. Raises whatever the model raises."""


def ask_model(model: Model, frames: Sequence[Frame]) -> list[Told]:
    """Return what the model sees in each frame, by running it.

    Raises:
        ValueError: it answers for more or fewer frames than it was asked about.
    """
    begun = time.perf_counter()
    seen = model.measure(frames)
    if len(seen) != len(frames):
        raise ValueError(f"{model.name} gave {len(seen)} results for {len(frames)} pictures")
    forward_ms = (time.perf_counter() - begun) * 1000 / max(len(frames), 1)
    return [Told(one, forward_ms) for one in seen]
