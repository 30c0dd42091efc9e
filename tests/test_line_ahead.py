"""The line with a device of its own: one thread submits batches, another one waits for them."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

import pytest

from clipmod_cli.ensemble import batch
from clipmod_cli.errors import DeviceLostError
from clipmod_cli.flow import MAX_WAIT_S, ahead
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.pipeline import Options, run
from clipmod_cli.results import Result, Settled
from clipmod_cli.types import Evidence, Frame, Item, Verdict
from tests.colour_models import POLICY, AnyColourModel, RedClassifier
from tests.decode.pictures import BLUE, RED, encode, quarters
from tests.on_device import AcceleratorError, OnDevice, ensemble_of, fail, redness, seen_by
from tests.test_flow import PLENTY_S, feeders, wait_for_end
from tests.test_seen_before import PLENTY, picture


def items(count: int) -> list[Item]:
    drawn = [encode(quarters([colour] * 4), "PNG") for colour in (BLUE, RED)]
    return [Item(source=f"{index}.png", index=index, data=drawn[index % 2]) for index in range(count)]


def judge(model: AnyColourModel, count: int) -> Generator[Result, None, None]:
    ensemble = ensemble_of(model, batch_size=4)
    criteria = prepare(ensemble, POLICY, threshold=0.5)
    return run(items(count), ensemble, criteria, Options(workers=2, infer_ahead=True))


def test_the_next_batch_is_begun_before_results_are_taken() -> None:
    """In the line itself: the first batch's results come only once the second one was begun."""
    second = threading.Event()

    def begun(_: Sequence[Frame]) -> None:
        if len(model.submitted) > 1:
            second.set()

    def hold(_: Sequence[Frame]) -> None:
        assert second.wait(PLENTY_S), "the device has nothing to do meanwhile"

    model = OnDevice(at_submit=begun, at_wait=hold)
    results = list(judge(model, 16))
    assert [one.decision for one in results if isinstance(one, Verdict)] == ["Safe", "NSFW"] * 8
    assert model.calls == [4] * 4, "a batch was run again"


def test_a_batch_goes_on_filling_while_the_device_has_work() -> None:
    first, second = threading.Event(), threading.Event()

    def slowly() -> Iterator[Item]:
        coming = items(8)
        yield from coming[:4]
        assert first.wait(PLENTY_S)
        yield from coming[4:6]
        time.sleep(10 * MAX_WAIT_S)
        yield from coming[6:]

    def note(_: Sequence[Frame]) -> None:
        (second if first.is_set() else first).set()

    def hold(_: Sequence[Frame]) -> None:
        assert second.wait(PLENTY_S)

    model = OnDevice(at_submit=note, at_wait=hold)
    ensemble = ensemble_of(model, batch_size=4)
    options = Options(workers=2, infer_ahead=True)
    assert len(list(run(slowly(), ensemble, prepare(ensemble, POLICY, threshold=0.5), options))) == 8
    assert model.submitted == [4, 4]


def test_what_came_before_a_lost_device_is_told() -> None:
    waited = itertools.count(1)

    def lose(*_: object) -> None:
        raise AcceleratorError("CUDA error: an illegal memory access was encountered")

    def lose_third(_: Sequence[Frame]) -> None:
        if next(waited) > 2:
            lose()

    told: list[Result] = []
    with pytest.raises(DeviceLostError):
        told.extend(judge(OnDevice(at_wait=lose_third), 40))
    # two batches of four; one closes before it is full where decoding is slow
    assert [one.item.index for one in told] == list(range(len(told)))
    assert 2 <= len(told) <= 8
    assert all(isinstance(one, Verdict) for one in told)


def test_who_leaves_early_leaves_no_thread_behind() -> None:
    before, model = feeders(), OnDevice()
    with closing(judge(model, 400)) as results:
        assert [next(results).item.index for _ in range(6)] == list(range(6))
    wait_for_end(feeders() - before)
    assert len(model.submitted) <= 4


@pytest.mark.parametrize("seed", range(8))
def test_threads_that_switch_all_the_time_change_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One prepares, one submits, one waits; devices fail, and a picture breaks any model."""
    monkeypatch.setattr(batch, "MAX_FAILED_SUBMITS", 1000)  # else a fault hits a batch that is run in turn
    draw = random.Random(seed)
    contents = [draw.randrange(21) for _ in range(120)]
    bad, room = draw.randrange(21), draw.choice([0, 8_000, PLENTY])

    def dislike(batch: Sequence[Frame]) -> None:
        if any(redness(frame) == redness(picture(bad)) for frame in batch):
            fail()

    def maybe_fail(_: Sequence[Frame]) -> None:
        if draw.random() < 0.5:
            fail()

    shown = [picture(content, index) for index, content in enumerate(contents)]
    batches = [shown[at : at + 5] for at in range(0, len(shown), 5)]

    def results(model: AnyColourModel) -> list[Evidence | Settled]:
        seeing = ensemble_of(model, RedClassifier(name="b", spec="b")).with_duplicate_cache(room)

        def prepare() -> Iterator[list[Frame]]:
            for shown_batch in batches:
                seeing.prepare_batch(shown_batch)
                yield shown_batch

        begun = ahead((seeing.submit(batch) for batch in ahead(prepare(), 1)), 1)
        return [one for wait in begun for one in wait()]

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        quick = results(OnDevice(once_at_submit=maybe_fail, once_at_wait=maybe_fail, at_wait=dislike))
    finally:
        sys.setswitchinterval(usual)
    assert [one.item.index for one in quick] == list(range(len(contents)))
    assert seen_by(quick) == seen_by(results(RedClassifier(before=dislike)))
