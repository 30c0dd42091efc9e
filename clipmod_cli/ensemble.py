"""Members and weights: runs batches of frames through every model and gathers the evidence.

Knows no policy beyond preparing one; judging is left to `clipmod_cli.judging`. The models are
called by one thread at a time.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.asking import AskModel, Asks, is_device_lost, is_exhausted
from clipmod_cli.criteria import Criteria, Judge
from clipmod_cli.errors import DeviceLostError, ErrorCode
from clipmod_cli.policy import Policy
from clipmod_cli.readers import check_sight, reader_of
from clipmod_cli.types import Evidence, Failure, Frame, Model, Seen, View, is_finite

log = logging.getLogger(__name__)

LOST = (
    "the device failed, and nothing more can be judged in this process. What was written stays; start the "
    "same command again, and with `--device cpu` if it fails at the same input"
)

Enough: TypeAlias = Callable[[Sequence[Frame], Mapping[str, Sequence[Seen]]], NDArray[np.bool_]]
"""Is asked, with frames and what some members saw in each (by name), in which of them the others can be
left out. Whoever answers knows what follows from that; here nobody does."""


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

    def measure(
        self, batches: Iterable[Sequence[Frame | Failure]], enough: Enough | None = None
    ) -> Iterator[Evidence | Failure]:
        """Yield the evidence for every frame, in order; failures pass through in their place.

        `enough` is asked between models where the remaining ones can be left out; None asks all.
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

    @property
    def views(self) -> tuple[View, ...]:
        """The geometries that the members want, each once."""
        return tuple(dict.fromkeys(member.model.view for member in self.members))

    @property
    def identity(self) -> str:
        """What identifies models, weights and precision: part of the `run_key`."""
        parts = [f"{m.model.spec}@{m.model.revision}={m.weight:.6f}" for m in self.members]
        return ",".join([*parts, self.dtype])

    def prepare(self, policy: Policy, *, threshold: float, allow_partial: bool = False) -> Criteria:
        """Return the policy made ready for these members; prompts are embedded here, once.

        Raises:
            BlindModelError: if a member cannot see an UNSAFE category and that is not allowed.
        """
        unseen = sorted(
            {name for m in self.members for name in check_sight(m.model, policy, allow_partial=allow_partial)}
        )
        judges = [
            Judge(name=m.model.name, weight=m.weight, reader=reader_of(m.model, policy)) for m in self.members
        ]
        return Criteria(
            policy=policy, threshold=threshold, judges=judges, unseen=unseen, degraded=self.degraded
        )

    def prepare_batch(self, batch: Sequence[Frame | Failure]) -> None:
        """Do what can be done for a batch that will be measured, while another one is."""
        frames = [one for one in batch if isinstance(one, Frame)]
        for member in self.members:
            try:
                self.ask.prepare(member.model, frames)
            except Exception:
                log.debug("a batch could not be prepared; measuring it will tell why", exc_info=True)

    def measure(
        self, batches: Iterable[Sequence[Frame | Failure]], enough: Enough | None = None
    ) -> Iterator[Evidence | Failure]:
        """Yield the evidence for every frame, in order; failures pass through in their place.

        Args:
            batches: frames that are looked at together.
            enough: is asked between members where the remaining ones can be left out; None asks all.
        """
        for batch in batches:
            with self._looking:
                looked = self._look([f for f in batch if isinstance(f, Frame)], enough)
            seen = iter(looked)
            for one in batch:
                yield next(seen) if isinstance(one, Frame) else one

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
                return [self._ask_stand_in(frames[0]) or _failed(frames[0], e)]
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
        looks = [_Look(frame) for frame in frames]
        still_open = looks
        for number, member in enumerate(self.members):
            if number and enough is not None:
                still_open = _still_open(still_open, enough)
            if not still_open:
                break
            told = self.ask(member.model, [look.frame for look in still_open])
            for look, one in zip(still_open, told, strict=True):
                look.seen[member.model.name] = one.seen
                look.forward_ms[member.model.name] = one.forward_ms
        names = [member.model.name for member in self.members]
        return [_evidence(look, names) for look in looks]


@dataclass(slots=True)
class _Look:
    """What was seen in one frame so far, and in how many milliseconds, by member."""

    frame: Frame
    seen: dict[str, Seen] = field(default_factory=dict)
    forward_ms: dict[str, float] = field(default_factory=dict)


def _still_open(looks: Sequence[_Look], enough: Enough) -> list[_Look]:
    """Return the frames that further members have to see. One that has failed already stays among them."""
    sound = [look for look in looks if all(map(is_finite, look.seen.values()))]
    if not sound:
        return list(looks)
    seen = {name: [look.seen[name] for look in sound] for name in sound[0].seen}
    answers = enough([look.frame for look in sound], seen)
    decided = {id(look) for look, answer in zip(sound, answers, strict=True) if answer}
    return [look for look in looks if id(look) not in decided]


def fingerprint(*parts: str) -> str:
    """Return 16 hex digits that identify these parts together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _evidence(look: _Look, names: Sequence[str]) -> Evidence | Failure:
    frame = look.frame
    for name, one in look.seen.items():
        if not is_finite(one):
            return Failure(
                item=frame.item,
                stage="measure",
                code="non_finite_score",
                message=f"{name} gave a result that is not a finite number",
                media=frame.media,
                last=frame.last,
            )
    skipped = tuple(name for name in names if name not in look.seen)
    return Evidence.of(frame, look.seen, look.forward_ms, skipped)


def _failed(frame: Frame, error: Exception) -> Failure:
    code: ErrorCode = "out_of_memory" if is_exhausted(error) else "model_error"
    message = f"the models could not look at this picture: {error}"
    return Failure(
        item=frame.item, stage="measure", code=code, message=message, media=frame.media, last=frame.last
    )
