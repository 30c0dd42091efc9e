"""A model on a stand-in for a device that computes on its own, and what tests of it share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.types import Evidence, Failure, Frame, Measured, Seen
from tests.colour_models import ColourModel, RedClassifier, frame_of

Log = list[tuple[str, str, int]]


@dataclass
class OnDevice(RedClassifier):
    """A model that notes when it is begun with a batch and when it is waited for."""

    log: Log = field(default_factory=list)
    at_begin: Callable[[Sequence[Frame]], None] = lambda _: None
    at_wait: Callable[[Sequence[Frame]], None] = lambda _: None
    is_asynchronous: bool = True

    def begin(self, frames: Sequence[Frame]) -> Callable[[], Measured]:
        """Begin with them."""
        self.log.append((self.name, "begun", len(frames)))
        self.at_begin(frames)

        def wait() -> Measured:
            self.log.append((self.name, "waited for", len(frames)))
            self.at_wait(frames)
            seen: list[Seen] = [RedClassifier.see(self, redness(frame)) for frame in frames]
            return Measured(self.after(seen), 0.5)

        return wait

    def measure(self, frames: Sequence[Frame]) -> Sequence[Seen]:
        self.log.append((self.name, "measured", len(frames)))
        return RedClassifier.measure(self, frames)


def redness(frame: Frame) -> float:
    """Return how red a picture is, whatever its view."""
    return float(next(iter(frame.views.values()))[..., 0].mean()) / 255


def ensemble_of(*models: ColourModel, **more: object) -> Ensemble:
    """Return them with equal weights."""
    members = [Member(model, 1 / len(models)) for model in models]
    return replace(Ensemble(members=members), **more)  # type: ignore[arg-type]


def frames(*reds: float) -> list[Frame]:
    return [frame_of(red, index) for index, red in enumerate(reds)]


def fail(*_: object) -> None:
    raise RuntimeError("an illegal instruction")


def seen_by(results: Iterable[Evidence | Failure]) -> list[object]:
    return [dict(one.seen) if isinstance(one, Evidence) else (one.code, one.message) for one in results]


class AcceleratorError(RuntimeError):
    """As torch's own."""
