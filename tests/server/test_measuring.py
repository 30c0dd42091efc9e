"""Concurrent callers share forward passes; what happens to one does not reach others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import Ensemble, Member, PendingEvidence
from clipmod_cli.results import Settled
from clipmod_cli.server.device_thread import Caller, DeviceThread, FairQueue, SharedEnsemble
from clipmod_cli.types import Embedding, Evidence, Failure, Frame
from tests.colour_models import AnyColourModel, RedEmbedder, frame_of
from tests.measuring import infer

WAIT_S = 10.0


@contextmanager
def measuring(**changes: object) -> Iterator[DeviceThread]:
    one = DeviceThread(**changes)  # type: ignore[arg-type]
    one.start()
    try:
        yield one
    finally:
        one.close()


def look(shared: SharedEnsemble, count: int) -> list[Evidence | Settled]:
    return list(infer(shared, [[frame_of(0.5, index) for index in range(count)]]))


def codes(results: Sequence[Evidence | Settled]) -> list[str]:
    return [one.code if isinstance(one, Failure) else "ok" for one in results]


class Gate:
    """Holds a model's first forward pass until it is opened."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, _frames: Sequence[Frame]) -> None:
        self.entered.set()
        assert self.open.wait(WAIT_S)


def ensemble_of(model: AnyColourModel, batch_size: int = 8) -> Ensemble:
    return Ensemble(members=[Member(model, 1.0)], batch_size=batch_size)


def test_evidence_comes_back_in_order_with_failures_in_their_place() -> None:
    ensemble = ensemble_of(RedEmbedder())
    lost = Failure(item=frame_of(0).item, stage="decode", code="decode_error", message="broken")
    frames: list[Frame | Settled] = [frame_of(0.0, 0), lost, frame_of(1.0, 1)]
    with measuring() as thread:
        seen = list(infer(SharedEnsemble(thread, Caller(ensemble)), [frames]))
    first, second, third = seen
    assert second is lost
    assert [one.item.index for one in (first, third)] == [0, 1]
    assert isinstance(third, Evidence)
    assert isinstance(vector := third.seen["red"], Embedding)
    assert vector.vector[0] == pytest.approx(1.0)


def test_what_was_measured_is_told_before_the_rest_of_its_batch() -> None:
    """A caller who streams sees his first picture once it is judged, whatever other callers ask."""
    again = Gate()

    def hold_second(frames: Sequence[Frame]) -> None:
        if len(model.calls) > 1:
            again(frames)

    model = RedEmbedder(before=hold_second)
    shared_batch = [frame_of(0.5, index) for index in range(2)]
    with measuring() as thread:
        shared = SharedEnsemble(thread, Caller(ensemble_of(model, batch_size=1)))
        seen = iter(shared.submit(shared_batch)())
        first = next(seen)
        assert again.entered.wait(WAIT_S)
        again.open.set()
        second = next(seen)
    assert isinstance(second, Evidence), "the first one was told only after the second"
    assert [first.item.index, second.item.index] == [0, 1]


def test_callers_that_come_together_share_a_forward_pass() -> None:
    gate = Gate()
    model = RedEmbedder(before=gate)
    ensemble = ensemble_of(model)
    done: list[str] = []
    with measuring() as thread:
        callers = [
            threading.Thread(
                target=lambda: done.extend(codes(look(SharedEnsemble(thread, Caller(ensemble)), 1)))
            )
            for _ in range(6)
        ]
        callers[0].start()
        assert gate.entered.wait(WAIT_S)
        for caller in callers[1:]:
            caller.start()
        while len(thread.queue) < 5:
            time.sleep(0.001)
        gate.open.set()
        for caller in callers:
            caller.join(WAIT_S)
    assert done == ["ok"] * 6
    assert model.calls == [1, 5]


def test_a_picture_that_breaks_a_batch_is_its_own_callers_matter() -> None:
    def refuse(frames: Sequence[Frame]) -> None:
        if any(frame.item.index == 7 for frame in frames):
            raise ValueError("this one")

    ensemble = ensemble_of(RedEmbedder(before=refuse), batch_size=16)
    with measuring() as thread:
        results = look(SharedEnsemble(thread, Caller(ensemble)), 9)
    assert codes(results) == ["ok"] * 7 + ["model_error"] + ["ok"]


def test_a_bug_reaches_each_caller_and_the_thread_goes_on() -> None:
    class Broken(Ensemble):
        def submit(
            self, batch: Sequence[Frame | Settled], can_skip_rest: CanSkipRest | None = None
        ) -> PendingEvidence:
            raise RuntimeError(f"a bug at {len(batch)} frames, {can_skip_rest}")

    with measuring() as thread:
        broken = Broken(members=[Member(RedEmbedder(), 1.0)])
        assert codes(look(SharedEnsemble(thread, Caller(broken)), 2)) == ["internal_error"] * 2
        assert thread.alive
        assert codes(look(SharedEnsemble(thread, Caller(ensemble_of(RedEmbedder()))), 1)) == ["ok"]


def test_no_forward_pass_is_spent_on_who_left_or_came_too_late() -> None:
    model = RedEmbedder()
    gone, late = Caller(ensemble_of(model)), Caller(ensemble_of(model), time.monotonic())
    gone.cancel()
    with measuring() as thread:
        for caller in (gone, late):
            assert codes(look(SharedEnsemble(thread, caller), 2)) == ["deadline"] * 2
    assert model.calls == []


def test_closing_answers_everybody() -> None:
    gate = Gate()
    ensemble = ensemble_of(RedEmbedder(before=gate), batch_size=1)
    results: list[list[str]] = []
    thread = DeviceThread()
    thread.start()
    callers = [
        threading.Thread(
            target=lambda: results.append(codes(look(SharedEnsemble(thread, Caller(ensemble)), 1)))
        )
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    assert gate.entered.wait(WAIT_S)
    while len(thread.queue) < 2:
        time.sleep(0.001)
    closing = threading.Thread(target=thread.close)
    closing.start()
    while len(thread.queue):
        time.sleep(0.001)
    gate.open.set()
    for one in (*callers, closing):
        one.join(WAIT_S)
    assert sorted(results) == [["deadline"], ["deadline"], ["ok"]]
    assert not thread.alive
    assert codes(look(SharedEnsemble(thread, Caller(ensemble)), 1)) == ["deadline"]


def test_every_forward_pass_is_reported() -> None:
    reports: list[int] = []
    with measuring(watch=lambda frames, _seconds: reports.append(frames)) as thread:
        look(SharedEnsemble(thread, Caller(ensemble_of(RedEmbedder(), batch_size=4))), 10)
    assert sum(reports) == 10
    assert max(reports) <= 4


def test_a_batch_of_nothing_but_failures_holds_nobody_up() -> None:
    ensemble = ensemble_of(RedEmbedder())
    lost = Failure(item=frame_of(0).item, stage="decode", code="decode_error", message="broken")
    with measuring() as thread:
        assert list(infer(SharedEnsemble(thread, Caller(ensemble)), [[lost]])) == [lost]
        assert codes(look(SharedEnsemble(thread, Caller(ensemble)), 1)) == ["ok"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_answers_who_waits_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_turns: FairQueue) -> None:
        raise SystemError("as only a bug could")

    thread = DeviceThread()
    caller = Caller(ensemble_of(RedEmbedder()))
    waiting = thread.queue.put(caller, [frame_of(0.5)])
    monkeypatch.setattr(FairQueue, "take", die)
    thread.start()
    assert codes([one.result(WAIT_S) for one in waiting]) == ["internal_error"]
    thread.close()
    assert not thread.alive
    assert codes(look(SharedEnsemble(thread, caller), 1)) == ["deadline"]
