"""The loop of a driver, with workers in memory: what it does with answers, losses, refusals and a stop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from clipmod_cli.errors import ExitCode
from clipmod_cli.parts.engine import drive
from clipmod_cli.parts.engine.drive import Driver, Heard, PartFault
from clipmod_cli.parts.schedule import PartSchedule

Answer = dict[str, Any] | None


def committed(worker: int, part: int | None) -> Answer:
    """Answer as a worker that can do everything."""
    return {"pid": worker, "host": "here", "outcome": "committed", "records": 10}


@dataclass
class Pool:
    """Workers that answer by a function, one call after the other."""

    answer: Callable[[int, int | None], Answer] = committed
    room: int = 1
    calls: deque[tuple[int, int | None]] = field(default_factory=deque)
    alive: set[int] = field(default_factory=set)
    is_stopped: bool = False

    def start(self, worker: int) -> None:
        self.alive.add(worker)
        self.calls.append((worker, None))

    def give(self, worker: int, part: int) -> None:
        assert worker in self.alive
        self.calls.append((worker, part))

    def end(self, worker: int) -> None:
        self.alive.remove(worker)

    def stop(self) -> None:
        self.is_stopped = True

    def capacity(self) -> int:
        return self.room

    def wait(self, _: float) -> Iterator[Heard]:
        if not self.calls:
            return
        worker, part = self.calls.popleft()
        if worker not in self.alive:
            return
        answer = self.answer(worker, part)
        if answer is None:
            self.alive.remove(worker)
        yield Heard(worker, part, answer)


@dataclass
class Told:
    """What a driver told."""

    done: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    lost: list[Mapping[str, Any]] = field(default_factory=list)
    waits: int = 0

    def wait(self) -> None:
        self.waits += 1

    def driver(
        self, parts: int, pool: Pool, stopped: Callable[[], bool] = lambda: False, *, grows: bool = False
    ) -> Driver:
        return Driver(
            schedule=PartSchedule(range(parts), minimum=1, maximum=1),
            workers=pool,
            grows=grows,
            done=lambda part, answer: self.done.append((part, answer)),
            lost=self.lost.append,
            waiting=self.wait,
            stopped=stopped,
        )


def test_each_part_is_told_once() -> None:
    told = Told()
    told.driver(5, Pool()).run()
    assert [part for part, _ in told.done] == list(range(5))


def test_a_part_whose_workers_are_lost_is_judged_by_another_one() -> None:
    told = Told()

    def answer(worker: int, part: int | None) -> Answer:
        return None if part == 1 and worker < 2 else committed(worker, part)

    told.driver(3, Pool(answer)).run()
    assert sorted(part for part, _ in told.done) == [0, 1, 2]
    assert [process["pid"] for process in told.lost] == [0, 1]


def test_a_node_that_cannot_judge_takes_no_part_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()

    def answer(worker: int, part: int | None) -> Answer:
        return {"pid": worker, "host": "odd", "error": "another run_key", "exit_code": 2}

    driver = told.driver(3, Pool(answer))
    driver.run()
    assert not told.done
    assert driver.schedule.left == 3
    assert list(driver.faults.values()) == [PartFault("odd: another run_key", ExitCode.USAGE)]
    assert [record.getMessage() for record in caplog.records] == ["odd: another run_key"]


def test_a_stop_leaves_the_part_in_flight() -> None:
    told = Told()
    pool = Pool()

    def answer(worker: int, part: int | None) -> Answer:
        if pool.is_stopped:
            return {"pid": worker, "host": "here", "outcome": "stopped"}
        return committed(worker, part)

    pool.answer = answer
    driver = told.driver(9, pool, lambda: len(told.done) == 2)
    driver.run()
    assert [part for part, _ in told.done] == [0, 1]
    assert driver.schedule.left == 7


def test_a_worker_that_does_not_stop_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "STOP_S", 0.05)
    told = Told()

    class Busy(Pool):
        def wait(self, _: float) -> Iterator[Heard]:
            while self.calls:
                worker, part = self.calls.popleft()
                if part is None:
                    yield Heard(worker, None, {"pid": 1, "host": "here"})

    pool = Busy()
    driver = told.driver(3, pool, lambda: driver.schedule.in_flight > 0)
    driver.run()
    assert pool.is_stopped
    assert driver.schedule.left == 3


def test_the_number_of_workers_follows_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "GROW_S", 0.0)
    told = Told()
    pool = Pool()
    most = 0

    def answer(worker: int, part: int | None) -> Answer:
        nonlocal most
        most = max(most, len(pool.alive))
        pool.room = 4 if len(told.done) < 20 else 1
        return committed(worker, part)

    pool.answer = answer
    told.driver(40, pool, grows=True).run()
    assert most == 4
    assert len(told.done) == 40


def test_it_is_told_that_no_worker_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "TELL_S", 0.0)
    told = Told()

    class Late(Pool):
        def wait(self, timeout_s: float) -> Iterator[Heard]:
            return iter(()) if told.waits < 3 else super().wait(timeout_s)

    told.driver(2, Late()).run()
    assert told.waits >= 3
    assert len(told.done) == 2
