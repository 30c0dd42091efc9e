"""A model on a stand-in for a device that computes on its own, and what tests of it share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.results import BankVerdict, Settled
from clipmod_cli.types import Evidence, Failure, Frame, Seen
from tests.colour_models import AnyColourModel, RedClassifier, frame_of

Log = list[tuple[str, str, int]]


@dataclass
class OnDevice(RedClassifier):
    """A model that notes when a batch is submitted and when it is waited for.

    `at_submit` and `at_wait` may raise; so may `once_at_submit` and `once_at_wait`, which are called only for
    pictures that were never submitted before, nor equal ones. `calls` are the sizes of the batches that were
    computed.
    """

    log: Log = field(default_factory=list)
    at_submit: Callable[[Sequence[Frame]], None] = lambda _: None
    at_wait: Callable[[Sequence[Frame]], None] = lambda _: None
    once_at_submit: Callable[[Sequence[Frame]], None] = lambda _: None
    once_at_wait: Callable[[Sequence[Frame]], None] = lambda _: None
    had: set[float] = field(default_factory=set)
    is_asynchronous: bool = True

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        self.log.append((self.name, "submitted", len(frames)))
        contents = {redness(frame) for frame in frames}
        first = not contents & self.had
        self.had |= contents
        self.at_submit(frames)
        if first:
            self.once_at_submit(frames)

        def wait() -> ForwardPass:
            self.log.append((self.name, "waited for", len(frames)))
            self.at_wait(frames)
            if first:
                self.once_at_wait(frames)
            self.calls.append(len(frames))
            seen: list[Seen] = [RedClassifier.see(self, redness(frame)) for frame in frames]
            return ForwardPass(self.after(seen), 0.5)

        return wait

    @property
    def submitted(self) -> list[int]:
        """The sizes of the batches that were submitted."""
        return [count for _, what, count in self.log if what == "submitted"]


class OneInFlight:
    """Has models fail where another one's batch was submitted and is not waited for yet."""

    def __init__(self, *models: OnDevice) -> None:
        self.in_flight = 0
        for model in models:
            model.at_submit, model.at_wait = self._submit, self._wait

    def _submit(self, _: Sequence[Frame]) -> None:
        self.in_flight += 1

    def _wait(self, _: Sequence[Frame]) -> None:
        crowded, self.in_flight = self.in_flight > 1, 0
        if crowded:
            fail()


def redness(frame: Frame) -> float:
    """Return how red a picture is, whatever its view."""
    return float(next(iter(frame.inputs.values()))[..., 0].mean()) / 255


def ensemble_of(*models: AnyColourModel, **more: object) -> Ensemble:
    """Return them with equal weights."""
    members = [Member(model, 1 / len(models)) for model in models]
    return replace(Ensemble(members=members), **more)  # type: ignore[arg-type]


def frames(*reds: float) -> list[Frame]:
    return [frame_of(red, index) for index, red in enumerate(reds)]


def fail(*_: object) -> None:
    raise RuntimeError("an illegal instruction")


def seen_by(results: Iterable[Evidence | Settled]) -> list[object]:
    return [
        (one.code, one.message) if isinstance(one, Failure) else dict(one.seen)
        for one in results
        if not isinstance(one, BankVerdict)
    ]


class AcceleratorError(RuntimeError):
    """As torch's own."""
