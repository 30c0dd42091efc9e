"""Which worker judges which part: decisions only; no clock, no I/O, and no engine that runs workers.

An engine reports what happened (`ready`, `done`, `lost`, `refused`) and carries out `next_actions`. It may
report late and take back nothing: a part that two workers judge is committed once (`PartStore.create`).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

IN_FLIGHT: Final = 2
"""Parts that a worker holds: the one it judges, and the next, so that it does not wait for the engine."""

MAX_LOSSES: Final = 100
"""After so many lost workers a part is given up. Each input may take two; a part with more than some dozens
of such inputs has another fault, and each loss costs the loading of the models."""

MAX_IN_A_ROW: Final = 20
"""So many workers may be lost for each that there was at once, while no part was ever done: what takes them
down is then no input, but a machine with too little memory, or a driver."""

MAX_FAILED_STARTS: Final = 3
"""So many times the minimum of workers may be lost before they are ready, with none ready in between; and so
many may refuse, with no part done in between."""


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker with this number, and report when it is ready or lost."""

    worker: int


@dataclass(frozen=True, slots=True)
class JudgePart:
    """Give a part to a worker; it judges its parts in the order in which they were given."""

    worker: int
    part: int


@dataclass(frozen=True, slots=True)
class EndWorker:
    """End a worker that holds no part and is not needed any more."""

    worker: int


Action: TypeAlias = StartWorker | JudgePart | EndWorker


@dataclass(slots=True)
class _Worker:
    """A worker, and the parts given to it, in order; it judges the first."""

    is_ready: bool = False
    parts: list[int] = field(default_factory=list)


class PartSchedule:
    """Hands out parts to workers until each part is done or given up.

    Parts of one group are held by one worker at a time. Not thread-safe: one thread reports and acts.

    Attributes:
        minimum: workers to start at once, and to keep to the end; at least 1.
        maximum: workers at most. Both may be changed at any time, as the cluster grows or shrinks.
        given_up: parts that lost `MAX_LOSSES` workers.
    """

    def __init__(
        self,
        parts: Iterable[int],
        *,
        minimum: int,
        maximum: int,
        groups: Mapping[int, Collection[str]] = MappingProxyType({}),
    ) -> None:
        """Begin with parts that are not done, each named once; they are handed out in this order.

        Args:
            parts: their numbers.
            minimum: see the attributes.
            maximum: see the attributes.
            groups: of the parts that share one with another part.
        """
        self.minimum = minimum
        self.maximum = maximum
        self.given_up: list[int] = []
        self._waiting = deque(parts)
        self._groups = groups
        self._losses: dict[int, int] = {}
        self._in_a_row = 0
        self._most_ready = 1
        self._has_done = False
        self._workers: dict[int, _Worker] = {}
        self._started = 0
        self._failed_starts = 0
        self._refusals = 0
        self._is_stopped = False

    @property
    def ready_count(self) -> int:
        """Workers that are ready."""
        return sum(worker.is_ready for worker in self._workers.values())

    @property
    def in_flight(self) -> int:
        """Parts that workers hold."""
        return sum(len(worker.parts) for worker in self._workers.values())

    @property
    def left(self) -> int:
        """Parts that are neither done nor given up."""
        return len(self._waiting) + self.in_flight

    @property
    def cannot_start(self) -> bool:
        """Whether workers failed to start, or refused, or were lost again and again: no more are started."""
        failed = max(self._failed_starts, self._refusals)
        return failed >= MAX_FAILED_STARTS * max(self.minimum, 1) or self.lost_in_a_row > 0

    @property
    def lost_in_a_row(self) -> int:
        """How many workers were lost with no part done in between, if that is too many; else 0."""
        most = MAX_LOSSES if self._has_done else MAX_IN_A_ROW
        return self._in_a_row if self._in_a_row >= most * self._most_ready else 0

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do: no part, or none that a worker will take."""
        if not self.left:
            return True
        if self._is_stopped:
            return not self.in_flight
        return self.cannot_start and not self._workers

    def next_actions(self) -> list[Action]:
        """Return what to do now; they count as done from here on."""
        if self._is_stopped:
            return []
        return [*self._give(), *self._end(), *self._start()]

    def ready(self, worker: int) -> None:
        """A worker can judge."""
        if worker in self._workers:
            self._workers[worker].is_ready = True
            self._failed_starts = 0
            self._most_ready = max(self._most_ready, self.ready_count)

    def done(self, worker: int, part: int) -> None:
        """A part is committed, by this worker or by another of the run."""
        if worker in self._workers and part in self._workers[worker].parts:
            self._workers[worker].parts.remove(part)
            self._losses.pop(part, None)
            self._refusals = self._in_a_row = 0
            self._has_done = True

    def lost(self, worker: int) -> None:
        """A worker died. The part that it judged has lost one more; what it had not begun has not."""
        gone = self._workers.pop(worker, None)
        if gone is None:
            return
        if not gone.is_ready:
            self._failed_starts += 1
        begun, rest = gone.parts[:1], gone.parts[1:]
        self._waiting.extendleft(reversed(rest))
        for part in begun:
            self._in_a_row += 1
            self._losses[part] = self._losses.get(part, 0) + 1
            if self._losses[part] >= MAX_LOSSES:
                self.given_up.append(part)
            else:  # behind one other part, which tells whether the fault is of the part or of the machine
                self._waiting.insert(1, part)

    def refused(self, worker: int) -> None:
        """A worker cannot judge here, through no fault of its parts: other models, a full disk."""
        gone = self._workers.pop(worker, None)
        if gone is not None:
            self._refusals += 1
            self._waiting.extendleft(reversed(gone.parts))

    def stop(self) -> None:
        """Give out no more parts and start no more workers."""
        self._is_stopped = True

    def _give(self) -> Iterator[Action]:
        """Give each ready worker a part, then a second while there are enough for those that hold none."""
        ready = {number: worker for number, worker in self._workers.items() if worker.is_ready}
        for number, worker in ready.items():
            if not worker.parts and not (yield from self._give_one(number, worker)):
                break  # nor is there one for the others that hold none
        starting = len(self._workers) - len(ready)
        for number, worker in ready.items():
            if len(self._waiting) > starting and 0 < len(worker.parts) < IN_FLIGHT:
                yield from self._give_one(number, worker)

    def _give_one(self, number: int, worker: _Worker) -> Generator[Action, None, bool]:
        """Give a worker the first part that it may judge now; return whether there was one."""
        part = next(self._free_for(number), None)
        if part is None:
            return False
        self._waiting.remove(part)
        worker.parts.append(part)
        yield JudgePart(number, part)
        return True

    def _free_for(self, number: int | None) -> Iterator[int]:
        """Yield the waiting parts of which no group is held by another worker, nor by one yielded before."""
        held = {
            group
            for other, worker in self._workers.items()
            if other != number
            for part in worker.parts
            for group in self._groups.get(part, ())
        }
        for part in self._waiting:
            groups = self._groups.get(part, ())
            if held.isdisjoint(groups):
                held.update(groups)
                yield part

    def _end(self) -> Iterator[Action]:
        """End workers without a part, down to the minimum."""
        for number, worker in list(self._workers.items()):
            is_idle = worker.is_ready and not worker.parts
            if is_idle and len(self._workers) > min(self.minimum, self.maximum):
                del self._workers[number]
                yield EndWorker(number)

    def _start(self) -> Iterator[Action]:
        """Start as many as the minimum, then as many more as are ready, while parts wait for them."""
        starting = len(self._workers) - self.ready_count
        room = self.maximum - len(self._workers)
        wanted = max(self.minimum - len(self._workers), self.ready_count - starting)
        if self.cannot_start:
            return
        idle = sum(not worker.parts for worker in self._workers.values())  # starting ones too
        most = min(wanted, room)
        free = sum(1 for _ in itertools.islice(self._free_for(None), max(most, 0) + idle))
        for _ in range(min(most, free - idle)):
            self._workers[self._started] = _Worker()
            yield StartWorker(self._started)
            self._started += 1
