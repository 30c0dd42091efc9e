"""Devices that compute on their own are given the next batch before the last one's results are taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.ensemble.asking import AskModel
from clipmod_cli.ensemble.at_once import MOST_FAULTS
from clipmod_cli.ensemble.cache import AskOnce
from clipmod_cli.ensemble.ensemble import Looking, Measures
from clipmod_cli.ensemble.seen_before import Memory, SeenBefore
from clipmod_cli.errors import DeviceLostError
from clipmod_cli.types import Evidence, Failure, Frame, Item, Seen
from tests.colour_models import ColourModel, RedClassifier
from tests.on_device import AcceleratorError, Log, OnDevice, ensemble_of, fail, frames, redness, seen_by
from tests.test_seen_before import PLENTY, picture, pictures


def test_all_members_are_begun_before_one_is_waited_for() -> None:
    log: Log = []
    seen = ensemble_of(OnDevice(name="a", log=log), OnDevice(name="b", log=log)).measure([frames(0.2, 0.9)])
    first, second = seen
    assert log == [("a", "begun", 2), ("b", "begun", 2), ("a", "waited for", 2), ("b", "waited for", 2)]
    assert isinstance(first, Evidence)
    assert isinstance(second, Evidence)
    assert list(first.seen) == ["a", "b"]
    assert first.forward_ms == {"a": 250.0, "b": 250.0}  # of its device, and not of the wait
    assert second.seen["a"] == RedClassifier().measure(frames(0.9))[0]


def test_whoever_computes_here_does_it_while_the_device_does() -> None:
    log: Log = []
    here, there = OnDevice(name="here", log=log, is_asynchronous=False), OnDevice(name="there", log=log)
    (one,) = ensemble_of(here, there).measure([frames(0.5)])
    assert [(name, what) for name, what, _ in log] == [
        ("there", "begun"), ("here", "measured"), ("there", "waited for")
    ]  # fmt: skip
    assert isinstance(one, Evidence)
    assert list(one.seen) == ["here", "there"]


def test_failures_keep_their_place() -> None:
    lost = Failure(item=Item(source="x", index=1), stage="decode", code="decode_error", message="")
    (first, second) = frames(0.1, 0.9)
    results = list(ensemble_of(OnDevice()).measure([[first, lost, second], [lost]]))
    assert [one.item.source for one in results] == ["0.png", "x", "1.png", "x"]


@pytest.mark.parametrize("when", ["at_begin", "at_wait"])
def test_a_batch_that_fails_is_asked_again_in_turn(when: str) -> None:
    model = OnDevice(name="red", **{when: fail})  # type: ignore[arg-type]
    other = OnDevice(name="other")
    batch = frames(0.1, 0.6, 0.9)
    plain = ensemble_of(RedClassifier(name="red"), RedClassifier(name="other"))
    assert seen_by(ensemble_of(model, other).measure([batch])) == seen_by(plain.measure([batch]))
    assert model.calls == other.calls == [3]


def test_too_few_results_are_no_results() -> None:
    model = OnDevice(after=lambda seen: seen[:-1])
    results = ensemble_of(model).measure([frames(0.1, 0.9)])
    assert {one.code for one in results if isinstance(one, Failure)} == {"model_error"}


def test_a_picture_that_no_model_survives_fails_alone() -> None:
    def dislike(batch: Sequence[Frame]) -> None:
        if any(redness(frame) == 1.0 for frame in batch):
            fail()

    for when in ("at_begin", "at_wait"):
        given: dict[str, object] = {"before": dislike, when: dislike}
        results = list(ensemble_of(OnDevice(**given)).measure([frames(0.0, 1.0, 0.2)]))  # type: ignore[arg-type]
        assert [isinstance(one, Failure) for one in results] == [False, True, False]


def test_a_lost_device_ends_the_run() -> None:
    def lose(*_: object) -> None:
        raise AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceLostError, match="illegal memory access"):
        list(ensemble_of(OnDevice(at_wait=lose, before=lose)).measure([frames(0.5)]))


def test_what_never_works_is_said_and_not_tried_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    model = OnDevice(at_wait=fail)
    results = list(ensemble_of(model).measure(frames(0.1, 0.9) for _ in range(6)))
    assert all(isinstance(one, Evidence) for one in results)
    assert [what for _, what, _ in model.log].count("begun") == MOST_FAULTS
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 2
    assert all("RuntimeError: an illegal instruction" in one for one in said)
    assert "from now on" in said[1]


def test_what_fails_now_and_then_is_tried_again() -> None:
    now_and_then = iter([True, True, False] * 4)

    def maybe_fail(_: Sequence[Frame]) -> None:
        if next(now_and_then):
            fail()

    model = OnDevice(at_wait=maybe_fail)
    list(ensemble_of(model).measure(frames(0.1, 0.9) for _ in range(12)))
    assert [what for _, what, _ in model.log].count("begun") == 12


def test_pictures_that_break_a_model_are_no_fault_of_this_way(caplog: pytest.LogCaptureFixture) -> None:
    model = OnDevice(at_begin=fail, before=fail)
    list(ensemble_of(model).measure(frames(0.1) for _ in range(6)))
    assert [what for _, what, _ in model.log].count("begun") == 6
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_what_does_not_fit_at_once_is_begun_in_parts_from_then_on() -> None:
    def exhaust(batch: Sequence[Frame]) -> None:
        if len(batch) > 2:
            raise MemoryError

    model = OnDevice(at_begin=exhaust, before=exhaust)
    ensemble = ensemble_of(model, ask=AskModel())
    for _ in range(2):
        assert all(isinstance(one, Evidence) for one in ensemble.measure([frames(0.1, 0.2, 0.3, 0.4)]))
    begun = [count for _, what, count in model.log if what == "begun"]
    assert begun == [4, 2, 2]


def test_early_exit_asks_in_turn() -> None:
    model = OnDevice()
    everybody = lambda asked, _seen: np.zeros(len(asked), dtype=np.bool_)  # noqa: E731
    list(ensemble_of(model, OnDevice(name="b")).measure([frames(0.5)], everybody))
    assert [what for _, what, _ in model.log] == ["measured"]


class Kept(dict[bytes, Seen]):
    """Evidence in memory, after `Keeps`."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Seen]:  # type: ignore[override]
        return {key: self[key] for key in keys if key in self}

    def put(self, seen: Mapping[bytes, Seen]) -> None:
        self.update(seen)


def test_what_an_earlier_run_saw_is_not_begun() -> None:
    kept, model = Kept(), OnDevice()
    ensemble = ensemble_of(model, ask=AskOnce(kept, "float32"))
    first = seen_by(ensemble.measure([frames(0.1, 0.9)]))
    assert len(kept) == 2
    again = seen_by(ensemble.measure([frames(0.9, 0.5, 0.1), frames(0.5)]))
    assert again[0] == first[1]
    assert again[2] == first[0]
    assert model.log == [
        ("red", "begun", 2), ("red", "waited for", 2), ("red", "begun", 1), ("red", "waited for", 1)
    ]  # fmt: skip


def in_flight(
    seeing: Measures, batches: Iterable[Sequence[Frame]], most: int
) -> Iterator[Evidence | Failure]:
    """Yield what is seen where so many batches are begun before the first of them is waited for."""
    begun: deque[Looking] = deque()
    for batch in batches:
        begun.append(seeing.begin(batch))
        if len(begun) == most:
            yield from begun.popleft()()
    for wait in begun:
        yield from wait()


def test_a_picture_that_is_being_looked_at_is_not_shown_again() -> None:
    model = OnDevice()
    seeing = SeenBefore(ensemble_of(model), Memory(PLENTY))
    results = list(in_flight(seeing, [pictures(1, 2), pictures(2, 1), pictures(3, 1)], 3))
    assert [count for _, what, count in model.log if what == "begun"] == [2, 1]
    assert seen_by(results)[2:4] == seen_by(results)[1::-1]
    assert not seeing._awaited


def test_where_the_first_of_equal_ones_failed_the_next_is_tried() -> None:
    broken = [True]

    def fail_once(*_: object) -> None:
        if broken[0]:
            fail()

    model = OnDevice(at_wait=fail_once, before=fail_once)
    seeing = SeenBefore(ensemble_of(model), Memory(PLENTY))
    first, second = (seeing.begin([picture(4, index)]) for index in range(2))
    assert isinstance(next(iter(first())), Failure)
    broken[0] = False
    assert isinstance(next(iter(second())), Evidence)


BATCHES = st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=6)
FAULTS = st.lists(st.sampled_from(["", "begin", "wait"]), max_size=12)


@given(
    batches=BATCHES, faults=FAULTS, most=st.integers(1, 4), bad=st.integers(0, 5), memory=st.integers(0, 9)
)
def test_the_outcome_is_that_of_one_batch_after_the_other(
    batches: list[list[int]], faults: list[str], most: int, bad: int, memory: int
) -> None:
    """However many are under way, whatever a device does, however little is remembered."""
    left = iter(faults)

    def may_fail(when: str) -> Callable[[Sequence[Frame]], None]:
        return lambda _: fail() if next(left, "") == when else None

    def dislike(batch: Sequence[Frame]) -> None:
        if any(redness(frame) == redness(picture(bad)) for frame in batch):
            fail()

    def results(model: ColourModel, count: int) -> list[object]:
        seeing = SeenBefore(ensemble_of(model, RedClassifier(name="b")), Memory(memory * 1000))
        shown = [[picture(one, at) for at, one in enumerate(batch)] for batch in batches]
        seen = list(in_flight(seeing, shown, count))
        assert [one.item for one in seen] == [frame.item for batch in shown for frame in batch]
        return seen_by(seen)

    quick = OnDevice(at_begin=may_fail("begin"), at_wait=may_fail("wait"), before=dislike)
    # what a model dislikes it dislikes in any way it is asked
    quick.at_wait = _both(quick.at_wait, dislike)
    assert results(quick, most) == results(RedClassifier(before=dislike), 1)


def _both(*calls: Callable[[Sequence[Frame]], None]) -> Callable[[Sequence[Frame]], None]:
    def call(batch: Sequence[Frame]) -> None:
        for one in calls:
            one(batch)

    return call
