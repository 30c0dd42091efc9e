"""`flow.ahead`: a stream that goes on while its consumer works, loses nothing, and ends when it is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.flow import ahead
from tests.test_flow import PLENTY_S, Source, feeders


@given(values=st.lists(st.integers(), max_size=60), count=st.integers(1, 9))
def test_law_it_is_the_stream(values: list[int], count: int) -> None:
    assert list(ahead(iter(values), count)) == values


def test_the_next_values_are_made_while_one_is_used() -> None:
    source = Source(pauses=[3])
    values = ahead(source.stream(), 3)
    assert next(values) == 0
    # 0 is being used, 1 and 2 wait, and 3 is being made, all without anybody asking for more
    assert source.reached.wait(PLENTY_S)
    assert source.pulled == 3
    source.go_on.set()
    values.close()


def test_no_value_is_made_that_has_no_place() -> None:
    made: list[int] = []

    def stream() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    values = ahead(stream(), 2)
    for taken in range(10):
        assert next(values) == taken
        wait_until(lambda: len(made) == taken + 3)  # noqa: B023 — it is called here
        time.sleep(0.01)
        assert len(made) == taken + 3
    values.close()


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PLENTY_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_who_leaves_waits_for_the_value_that_is_being_made() -> None:
    before = feeders()
    source = Source()
    values = ahead(source.stream(), 2)
    next(values)
    values.close()
    assert source.closed.is_set()
    assert feeders() <= before


def test_who_leaves_can_end_what_a_value_waits_for() -> None:
    source = Source(pauses=[1])
    values = ahead(source.stream(), 2, closing=source.go_on.set)
    assert next(values) == 0
    assert source.reached.wait(PLENTY_S)
    values.close()
    assert source.closed.is_set()


def test_what_the_stream_raises_comes_after_what_it_gave() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    values = ahead(broken(), 5)
    assert next(values) == 1
    with pytest.raises(OSError, match="gone"):
        next(values)


def test_who_waits_for_a_value_says_so_and_who_does_not_wait_does_not() -> None:
    waiting, more = threading.Event(), threading.Event()
    told: list[bool] = []

    def stream() -> Iterator[int]:
        yield 0
        assert waiting.wait(PLENTY_S), "nobody says that he waits"
        yield 1
        more.set()

    for value in ahead(stream(), 5, waiting=waiting):
        told.append(waiting.is_set())
        if value == 1:
            assert more.wait(PLENTY_S)
    assert told == [False, False]
    assert not waiting.is_set()
