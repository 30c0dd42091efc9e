"""Members and weights: runs batches of frames through every model and gathers the evidence.

Knows no policy; judging is left to `clipmod_cli.judge.judging`. The models are
called by one thread at a time.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from clipmod_cli.ensemble.asking import AskModel, Asks, is_device_lost
from clipmod_cli.ensemble.at_once import AtOnce, Fault, Said
from clipmod_cli.ensemble.looks import Enough, Look, evidence_of, failure_of, note, still_open
from clipmod_cli.errors import DeviceLostError
from clipmod_cli.types import Evidence, Failure, Frame, Model, View

log = logging.getLogger(__name__)

LOST = (
    "the device failed, and nothing more can be judged in this process. What was written stays; start the "
    "same command again, and with `--device cpu` if it fails at the same input"
)

Looking: TypeAlias = Callable[[], Iterable[Evidence | Failure]]
"""Waits for the evidence for every frame of a batch, in order; failures pass through in their place."""


class Measures(Protocol):
    """What can look at frames: an `Ensemble`, or one that many callers share."""

    @property
    def views(self) -> tuple[View, ...]:
        """The geometries it wants, each once."""
        ...

    @property
    def batch_size(self) -> int:
        """Frames in one forward pass."""
        ...

    def prepare_batch(self, batch: Sequence[Frame | Failure]) -> None:
        """Do what can be done for a batch that will be measured, in another thread while another one is.

        It changes no outcome, and raises nothing.
        """
        ...

    def begin(self, batch: Sequence[Frame | Failure], enough: Enough | None = None) -> Looking:
        """Begin to look at a batch, and return what waits for the evidence.

        Whoever has begun with several batches waits for them in the same order, in another thread perhaps.

        Args:
            batch: frames that are looked at together, and failures that keep their place.
            enough: is asked between models where the remaining ones can be left out; None asks all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A loaded model and its share of the ensemble's weight."""

    model: Model
    weight: float


@dataclass(frozen=True)
class Ensemble:
    """Models that look at the same frames; weights sum to 1.

    Attributes:
        dtype: the precision that the models run in, as `bfloat16`.
        batch_size: frames in one forward pass.
        degraded: this is less than the three-model ensemble that was wanted.
        stand_in: the member that is asked alone where another one fails at a frame; None has the
            frame fail.
        ask: how a member is asked.
    """

    members: Sequence[Member]
    dtype: str = "float32"
    batch_size: int = 8
    degraded: bool = False
    stand_in: str | None = None
    ask: Asks = field(default_factory=AskModel, repr=False, compare=False)
    _looking: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    _at_once: AtOnce = field(default_factory=AtOnce, init=False, repr=False, compare=False)

    @property
    def views(self) -> tuple[View, ...]:
        """The geometries that the members want, each once."""
        return tuple(dict.fromkeys(member.model.view for member in self.members))

    @property
    def identity(self) -> str:
        """What identifies models, weights and precision: part of the `run_key`."""
        parts = [f"{m.model.spec}@{m.model.revision}={m.weight:.6f}" for m in self.members]
        return ",".join([*parts, self.dtype])

    def prepare_batch(self, batch: Sequence[Frame | Failure]) -> None:
        """Do what can be done for a batch that will be measured, while another one is."""
        frames = [one for one in batch if isinstance(one, Frame)]
        for member in self.members:
            try:
                self.ask.prepare(member.model, frames)
            except Exception:
                log.debug("a batch could not be prepared; measuring it will tell why", exc_info=True)

    def begin(self, batch: Sequence[Frame | Failure], enough: Enough | None = None) -> Looking:
        """Begin to look at a batch, and return what waits for the evidence.

        Devices that compute on their own have their work then, and all others have done it.
        """
        frames = [one for one in batch if isinstance(one, Frame)]
        with self._looking:
            wait = self._begin(frames, enough)

        def tell() -> list[Evidence | Failure]:
            seen = iter(wait())
            return [next(seen) if isinstance(one, Frame) else one for one in batch]

        return tell

    def measure(
        self, batches: Iterable[Sequence[Frame | Failure]], enough: Enough | None = None
    ) -> Iterator[Evidence | Failure]:
        """Yield the evidence for every frame, one batch after the other."""
        for batch in batches:
            yield from self.begin(batch, enough)()

    def _begin(self, frames: Sequence[Frame], enough: Enough | None) -> Looking:
        models = [member.model for member in self.members]
        # Who may be left out depends on what the others say, so then they are asked in turn.
        if enough is not None or not frames or not self._at_once.can_ask(models):
            looked = self._look(frames, enough)
            return lambda: looked
        wait = self._at_once.begin(self.ask, models, frames)
        return lambda: self._collect(frames, wait())

    def _collect(self, frames: Sequence[Frame], said: Said) -> list[Evidence | Failure]:
        """Return what the members saw; where one failed, they are asked in turn."""
        if not isinstance(said, Fault):
            looks = [Look(frame) for frame in frames]
            for member in self.members:
                note(looks, member.model.name, said[member.model.name])
            return self._tell(looks)
        with self._looking:
            looked = self._look(frames, None)
        if all(isinstance(one, Evidence) for one in looked):
            self._at_once.blame(said)
        return looked

    def _look(self, frames: Sequence[Frame], enough: Enough | None) -> list[Evidence | Failure]:
        """Return what the members saw; a batch that raises is halved until the culprit is alone."""
        if not frames:
            return []
        try:
            return self._forward(frames, enough)
        except Exception as e:
            if is_device_lost(e):
                raise DeviceLostError(f"{LOST}: {e}") from e
            if len(frames) == 1:
                log.debug("a forward pass failed", exc_info=True)
                return [self._ask_stand_in(frames[0]) or failure_of(frames[0], e)]
        middle = len(frames) // 2
        return self._look(frames[:middle], enough) + self._look(frames[middle:], enough)

    def _ask_stand_in(self, frame: Frame) -> Evidence | None:
        """Return what the member that stands in sees; None if there is none, or it fails too."""
        member = next((m for m in self.members if m.model.name == self.stand_in), None)
        if member is None:
            return None
        seen = next(Ensemble([member]).measure([[frame]]))
        return replace(seen, stand_in=True) if isinstance(seen, Evidence) else None

    def _forward(self, frames: Sequence[Frame], enough: Enough | None) -> list[Evidence | Failure]:
        """Ask one member after the other, each about the frames that are still open."""
        looks = [Look(frame) for frame in frames]
        left = looks
        for number, member in enumerate(self.members):
            if number and enough is not None:
                left = still_open(left, enough)
            if not left:
                break
            note(left, member.model.name, self.ask(member.model, [look.frame for look in left]))
        return self._tell(looks)

    def _tell(self, looks: Sequence[Look]) -> list[Evidence | Failure]:
        names = [member.model.name for member in self.members]
        return [evidence_of(look, names) for look in looks]


def fingerprint(*parts: str) -> str:
    """Return 16 hex digits that identify these parts together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
