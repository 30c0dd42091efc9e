"""Whose frames are measured next."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.server.device_thread import Caller, FairQueue
from tests.colour_models import RedEmbedder, frame_of


def ensemble_of(batch_size: int) -> Ensemble:
    return Ensemble(members=[Member(RedEmbedder(), 1.0)], batch_size=batch_size)


def put(turns: FairQueue, caller: Caller, count: int) -> None:
    turns.put(caller, [frame_of(0.5, index) for index in range(count)])


def take(turns: FairQueue) -> list[Caller]:
    return [one.caller for one in turns.take() or []]


def test_a_single_picture_does_not_wait_behind_anothers_thousands() -> None:
    ensemble, turns = ensemble_of(4), FairQueue()
    many, one = Caller(ensemble), Caller(ensemble)
    put(turns, many, 2500)
    put(turns, one, 1)
    assert take(turns) == [many, one, many, many]


def test_callers_are_served_in_turn_over_batches() -> None:
    ensemble, turns = ensemble_of(2), FairQueue()
    callers = [Caller(ensemble) for _ in range(3)]
    for caller in callers:
        put(turns, caller, 2)
    a, b, c = callers
    assert [take(turns), take(turns), take(turns)] == [[a, b], [c, a], [b, c]]


def test_a_client_with_many_requests_has_no_more_turns_than_one_with_one() -> None:
    ensemble, turns = ensemble_of(4), FairQueue()
    many = [Caller(ensemble, sent_by="many") for _ in range(60)]
    one = Caller(ensemble, sent_by="one")
    for caller in many:
        put(turns, caller, 2)
    put(turns, one, 4)
    batches = [take(turns), take(turns)]
    assert [batch.count(one) for batch in batches] == [2, 2]
    assert [caller for batch in batches for caller in batch if caller is not one] == many[:4]


def test_frames_for_different_models_are_never_in_one_batch() -> None:
    turns = FairQueue()
    first, second = Caller(ensemble_of(8)), Caller(ensemble_of(8))
    put(turns, first, 3)
    put(turns, second, 2)
    assert [take(turns), take(turns)] == [[first] * 3, [second] * 2]


@given(
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    batch_size=st.integers(1, 7),
    shared=st.booleans(),
)
def test_nothing_is_lost_doubled_or_reordered(counts: list[int], batch_size: int, *, shared: bool) -> None:
    one, turns = ensemble_of(batch_size), FairQueue()
    callers = [Caller(one if shared else ensemble_of(batch_size)) for _ in counts]
    for caller, count in zip(callers, counts, strict=True):
        put(turns, caller, count)
    seen: dict[Caller, list[int]] = {caller: [] for caller in callers}
    while len(turns):
        batch = turns.take() or []
        assert 0 < len(batch) <= batch_size
        for waiting in batch:
            seen[waiting.caller].append(waiting.frame.item.index)
    assert [seen[caller] for caller in callers] == [list(range(count)) for count in counts]


def test_taking_waits_for_frames() -> None:
    turns, caller = FairQueue(), Caller(ensemble_of(1))
    taken: list[list[Caller]] = []
    thread = threading.Thread(target=lambda: taken.append(take(turns)))
    thread.start()
    put(turns, caller, 1)
    thread.join(10)
    assert taken == [[caller]]


def test_closing_gives_back_what_waits_and_lets_nothing_in() -> None:
    turns, caller = FairQueue(), Caller(ensemble_of(1))
    put(turns, caller, 3)
    assert len(turns.close()) == 3
    assert turns.take() is None
    with pytest.raises(RuntimeError):
        put(turns, caller, 1)


def test_a_caller_is_over_when_it_left_or_its_time_is_up() -> None:
    ensemble = ensemble_of(1)
    late, gone, waiting = Caller(ensemble, time.monotonic()), Caller(ensemble), Caller(ensemble)
    gone.cancel()
    assert (late.cancelled, gone.cancelled, waiting.cancelled) == (True, True, False)
