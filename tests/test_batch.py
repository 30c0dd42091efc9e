"""The life of a batch: submitted to all models, waited for later, and run model by model if that fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.ensemble import batch as batch_module
from clipmod_cli.ensemble.batch import MAX_FAILED_SUBMITS
from clipmod_cli.ensemble.ensemble import InferenceEngine, PendingEvidence
from clipmod_cli.errors import DeviceLostError
from clipmod_cli.results import Settled
from clipmod_cli.types import Evidence, Failure, Frame, Item
from tests.colour_models import AnyColourModel, RedClassifier
from tests.measuring import infer
from tests.on_device import (
    AcceleratorError,
    Log,
    OnDevice,
    OneInFlight,
    ensemble_of,
    fail,
    frames,
    redness,
    seen_by,
)
from tests.test_seen_before import PLENTY, picture


def test_all_models_are_submitted_before_one_is_waited_for() -> None:
    log: Log = []
    seen = infer(ensemble_of(OnDevice(name="a", log=log), OnDevice(name="b", log=log)), [frames(0.2, 0.9)])
    first, second = seen
    assert log == [
        ("a", "submitted", 2),
        ("b", "submitted", 2),
        ("a", "waited for", 2),
        ("b", "waited for", 2),
    ]
    assert isinstance(first, Evidence)
    assert isinstance(second, Evidence)
    assert list(first.seen) == ["a", "b"]
    assert first.forward_ms == {"a": 250.0, "b": 250.0}  # of its device, and not of the wait
    assert second.seen["a"] == RedClassifier().infer(frames(0.9))[0]


def test_a_cpu_model_computes_while_a_device_does() -> None:
    log: Log = []
    cpu, device = OnDevice(name="cpu", log=log, is_asynchronous=False), OnDevice(name="device", log=log)
    (one,) = infer(ensemble_of(cpu, device), [frames(0.5)])
    assert [(name, what) for name, what, _ in log] == [
        ("device", "submitted"), ("cpu", "submitted"), ("cpu", "waited for"), ("device", "waited for")
    ]  # fmt: skip
    assert isinstance(one, Evidence)
    assert list(one.seen) == ["cpu", "device"]


def test_failures_keep_their_place() -> None:
    lost = Failure(item=Item(source="x", index=1), stage="decode", code="decode_error", message="")
    (first, second) = frames(0.1, 0.9)
    results = list(infer(ensemble_of(OnDevice()), [[first, lost, second], [lost]]))
    assert [one.item.source for one in results] == ["0.png", "x", "1.png", "x"]


@pytest.mark.parametrize("when", ["once_at_submit", "once_at_wait"])
def test_a_batch_that_fails_is_run_again_model_by_model(when: str) -> None:
    model = OnDevice(name="red", **{when: fail})  # type: ignore[arg-type]
    other = OnDevice(name="other")
    batch = frames(0.1, 0.6, 0.9)
    plain = ensemble_of(RedClassifier(name="red"), RedClassifier(name="other"))
    assert seen_by(infer(ensemble_of(model, other), [batch])) == seen_by(infer(plain, [batch]))
    assert model.calls == other.calls == [3]


def test_too_few_results_are_no_results() -> None:
    model = OnDevice(after=lambda seen: seen[:-1])
    results = infer(ensemble_of(model), [frames(0.1, 0.9)])
    assert {one.code for one in results if isinstance(one, Failure)} == {"model_error"}


@pytest.mark.parametrize("when", ["at_submit", "at_wait"])
def test_a_picture_that_no_model_survives_fails_alone(when: str) -> None:
    def dislike(batch: Sequence[Frame]) -> None:
        if any(redness(frame) == 1.0 for frame in batch):
            fail()

    model = OnDevice(**{when: dislike})  # type: ignore[arg-type]
    results = list(infer(ensemble_of(model), [frames(0.0, 1.0, 0.2)]))
    assert [isinstance(one, Failure) for one in results] == [False, True, False]


def test_a_lost_device_ends_the_run() -> None:
    def lose(*_: object) -> None:
        raise AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceLostError, match="illegal memory access"):
        list(infer(ensemble_of(OnDevice(at_wait=lose)), [frames(0.5)]))


def test_submitting_that_never_works_is_reported_and_not_tried_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, other = OnDevice(name="one"), OnDevice(name="other")
    OneInFlight(one, other)
    results = list(infer(ensemble_of(one, other), (frames(0.1, 0.9) for _ in range(6))))
    assert all(isinstance(result, Evidence) for result in results)
    assert len(one.submitted) == 6 + MAX_FAILED_SUBMITS
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 2
    assert all("RuntimeError: an illegal instruction" in line for line in said)
    assert "and so will all others" in said[1]


def test_submitting_that_fails_now_and_then_is_tried_again() -> None:
    now_and_then = iter([True, True, False] * 4)

    def maybe_fail(_: Sequence[Frame]) -> None:
        if next(now_and_then):
            fail()

    model = OnDevice(once_at_wait=maybe_fail)
    list(infer(ensemble_of(model), (frames(at / 40, at / 40 + 0.5) for at in range(12))))
    assert len(model.submitted) == 12 + 8


def test_pictures_that_break_a_model_do_not_count_against_submitting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = OnDevice(at_submit=fail)
    list(infer(ensemble_of(model), (frames(0.1) for _ in range(6))))
    assert len(model.submitted) == 12
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_batch_that_does_not_fit_is_submitted_in_parts_from_then_on() -> None:
    def exhaust(batch: Sequence[Frame]) -> None:
        if len(batch) > 2:
            raise MemoryError

    model = OnDevice(at_submit=exhaust)
    ensemble = ensemble_of(model)
    for _ in range(2):
        assert all(isinstance(one, Evidence) for one in infer(ensemble, [frames(0.1, 0.2, 0.3, 0.4)]))
    # at once, again alone, halved; the next batch at once in halves
    assert model.submitted == [4, 4, 2, 2, 2, 2]


def test_early_exit_runs_model_by_model() -> None:
    model, other = OnDevice(), OnDevice(name="b")
    skip = lambda frames, _seen: np.ones(len(frames), dtype=np.bool_)  # noqa: E731
    list(infer(ensemble_of(model, other), [frames(0.5)], skip))
    assert model.log == [("red", "submitted", 1), ("red", "waited for", 1)]
    assert other.log == []


def test_cached_frames_are_not_submitted() -> None:
    model = OnDevice()
    ensemble = ensemble_of(model).with_duplicate_cache(PLENTY)
    first = seen_by(infer(ensemble, [frames(0.1, 0.9)]))
    again = seen_by(infer(ensemble, [frames(0.9, 0.5, 0.1), frames(0.5)]))
    assert again[0] == first[1]
    assert again[2] == first[0]
    assert model.log == [
        ("red", "submitted", 2), ("red", "waited for", 2), ("red", "submitted", 1), ("red", "waited for", 1)
    ]  # fmt: skip


def in_flight(
    seeing: InferenceEngine, batches: Iterable[Sequence[Frame]], most: int
) -> Iterator[Evidence | Settled]:
    """Yield what is seen where so many batches are submitted before the first of them is waited for."""
    submitted: deque[PendingEvidence] = deque()
    for batch in batches:
        submitted.append(seeing.submit(batch))
        if len(submitted) == most:
            yield from submitted.popleft()()
    for wait in submitted:
        yield from wait()


def test_where_the_first_of_equal_ones_failed_the_next_is_tried() -> None:
    broken = [True]

    def fail_once(*_: object) -> None:
        if broken[0]:
            fail()

    model = OnDevice(at_wait=fail_once)
    seeing = ensemble_of(model).with_duplicate_cache(PLENTY)
    first, second = (seeing.submit([picture(4, index)]) for index in range(2))
    assert isinstance(next(iter(first())), Failure)
    broken[0] = False
    assert isinstance(next(iter(second())), Evidence)


BATCHES = st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=6)
FAULTS = st.lists(st.sampled_from(["", "submit", "wait"]), max_size=12)


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

    def results(model: AnyColourModel, count: int) -> list[object]:
        seeing = ensemble_of(model, RedClassifier(name="b", spec="b")).with_duplicate_cache(memory * 1000)
        shown = [[picture(one, at) for at, one in enumerate(batch)] for batch in batches]
        seen = list(in_flight(seeing, shown, count))
        assert [one.item for one in seen] == [frame.item for batch in shown for frame in batch]
        return seen_by(seen)

    quick = OnDevice(once_at_submit=may_fail("submit"), once_at_wait=may_fail("wait"), at_wait=dislike)
    with mock.patch.object(batch_module, "MAX_FAILED_SUBMITS", 1000):  # else a fault hits a batch run in turn
        assert results(quick, most) == results(RedClassifier(before=dislike), 1)
