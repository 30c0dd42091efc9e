"""The loop of a driver: carries out what the schedule wants, and tells it what workers answered.

It knows no engine: `Workers` is the seam.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from clipmod_cli.parts.schedule import EndWorker, JudgePart, PartSchedule, StartWorker

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""How soon a stop request and a new node are noticed."""

STOP_S: Final = 20.0
"""How long workers may take to end the batch in flight before they are ended themselves."""

GROW_S: Final = 5.0
"""How often the engine is asked how many workers there is room for."""

TELL_S: Final = 30.0
"""How often it is told that no worker is ready."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a worker answered.

    Attributes:
        part: that it judged; None if it loaded the models.
        answer: of `PartActor`; None if the worker is lost.
    """

    worker: int
    part: int | None
    answer: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class PartFault:
    """Why a node could not judge, with the exit code of that error."""

    message: str
    exit_code: int


class Workers(Protocol):
    """Runs workers of `PartActor`; one thread calls."""

    def start(self, worker: int) -> None:
        """Start a worker; `wait` tells when its models are loaded."""
        ...

    def give(self, worker: int, part: int) -> None:
        """Let a worker judge a part after those that it has."""
        ...

    def end(self, worker: int) -> None:
        """End a worker, whatever it does; `wait` tells nothing more of it."""
        ...

    def stop(self) -> None:
        """Let all workers end what they judge after the batch in flight."""
        ...

    def wait(self, timeout_s: float) -> Iterator[Heard]:
        """Yield what workers answered, waiting so long for the first; answers before losses."""
        ...

    def capacity(self) -> int:
        """Return how many workers there is room for now."""
        ...


@dataclass
class Driver:
    """Judges parts by workers until none is left, none can be judged, or the run is stopped.

    Attributes:
        grows: the schedule's maximum follows the room that there is.
        done: called with a part that is committed, and the worker's answer.
        lost: called with the answer by which a lost worker told that it was ready.
        waiting: called every `TELL_S` while no worker is ready.
        stopped: whether the run is to stop.
        faults: why nodes could not judge, each once.
    """

    schedule: PartSchedule
    workers: Workers
    grows: bool
    done: Callable[[int, Mapping[str, Any]], None]
    lost: Callable[[Mapping[str, Any]], None]
    waiting: Callable[[], None]
    stopped: Callable[[], bool]
    faults: dict[str, PartFault] = field(default_factory=dict)
    _processes: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def run(self) -> None:
        """Hand out parts until the schedule has ended."""
        told = now = time.monotonic()
        asked, stop_by = -GROW_S, float("inf")
        while now < stop_by:
            if self.stopped() and stop_by == float("inf"):
                self.schedule.stop()
                self.workers.stop()
                stop_by = now + STOP_S
            if self.grows and now - asked >= GROW_S:
                asked = now
                self.schedule.maximum = max(self.workers.capacity(), self.schedule.minimum)
            self._act()
            if self.schedule.ended:
                return
            for heard in self.workers.wait(POLL_S):
                self._hear(heard)
            now = time.monotonic()
            if self.schedule.ready_count:
                told = now
            elif now - told > TELL_S:
                told = now
                self.waiting()

    def _act(self) -> None:
        for action in self.schedule.next_actions():
            match action:
                case StartWorker(worker):
                    self.workers.start(worker)
                case JudgePart(worker, part):
                    self.workers.give(worker, part)
                case EndWorker(worker):
                    self.workers.end(worker)
                case _:
                    raise AssertionError(action)

    def _hear(self, heard: Heard) -> None:
        if heard.answer is None:
            if (process := self._processes.pop(heard.worker, None)) is not None:
                self.lost(process)
            self.schedule.lost(heard.worker)
        elif "error" in heard.answer:
            self._refuse(heard.worker, heard.answer)
        elif heard.part is None:
            self._processes[heard.worker] = heard.answer
            self.schedule.ready(heard.worker)
        elif heard.answer["outcome"] == "stopped":
            self.schedule.refused(heard.worker)
        else:
            self.schedule.done(heard.worker, heard.part)
            self.done(heard.part, heard.answer)

    def _refuse(self, worker: int, answer: Mapping[str, Any]) -> None:
        """End a worker that cannot judge, and keep why."""
        message = f"{answer['host']}: {answer['error']}"
        if message not in self.faults:
            self.faults[message] = PartFault(message, answer["exit_code"])
            log.error("%s", message)
        self.workers.end(worker)
        self.schedule.refused(worker)
