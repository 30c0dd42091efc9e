"""`batched` loses nothing, keeps the order, and never keeps anybody waiting. Events instead of timings."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.flow import batched

PLENTY_S = 60.0
"""Longer than anything here takes; only a hang reaches it."""


def feeders() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "clipmod-feeder"}


def wait_for_end(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PLENTY_S)
        assert not thread.is_alive()


def drain(batches: Iterable[list[int]], into: list[int]) -> None:
    for batch in batches:
        into += batch


class Source:
    """A stream that tells how far it was read, whether it was closed, and waits where it is told to."""

    def __init__(self, *, length: int | None = None, pauses: Iterable[int] = ()) -> None:
        self.length = length
        self.pulled = 0
        self.closed = threading.Event()
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.pauses = frozenset(pauses)

    def stream(self) -> Generator[int, None, None]:
        try:
            for number in itertools.count() if self.length is None else range(self.length):
                if number in self.pauses:
                    self.reached.set()
                    assert self.go_on.wait(PLENTY_S)
                self.pulled += 1
                yield number
        finally:
            self.closed.set()


@given(values=st.lists(st.integers(), max_size=60), size=st.integers(1, 9))
def test_law_batches_in_a_row_are_the_stream(values: list[int], size: int) -> None:
    batches = list(batched(iter(values), size))
    assert [value for batch in batches for value in batch] == values
    assert all(1 <= len(batch) <= size for batch in batches)


@given(values=st.lists(st.integers(), max_size=30), size=st.integers(1, 9))
def test_law_without_patience_nothing_is_lost_either(values: list[int], size: int) -> None:
    batches = list(batched(iter(values), size, max_wait_s=0.0))
    assert [value for batch in batches for value in batch] == values
    assert all(1 <= len(batch) <= size for batch in batches)


@given(length=st.integers(0, 20), size=st.integers(1, 6))
def test_law_what_the_stream_raises_comes_after_all_before_it(length: int, size: int) -> None:
    def broken() -> Iterator[int]:
        yield from range(length)
        raise OSError("the disk is gone")

    seen: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"):
        drain(batched(broken(), size), seen)
    assert seen == list(range(length))


def test_full_batches_do_not_wait_for_the_stream_to_end() -> None:
    source = Source(pauses=[6])
    batches = batched(source.stream(), 3, max_wait_s=PLENTY_S)
    assert [next(batches), next(batches)] == [[0, 1, 2], [3, 4, 5]]
    source.go_on.set()
    batches.close()  # type: ignore[attr-defined]


def test_a_slow_producer_gets_its_batch_before_it_gives_more() -> None:
    source = Source(length=4, pauses=[2])
    batches = batched(source.stream(), 100)
    # The third value only comes once the first two are out: a batch that waited would never end.
    first: list[int] = []
    while len(first) < 2:
        first += next(batches)
    assert first == [0, 1]
    source.go_on.set()
    assert [value for batch in batches for value in batch] == [2, 3]


def test_a_batch_that_nobody_wants_yet_goes_on_filling() -> None:
    source, asked, wanted = Source(length=5, pauses=[2]), threading.Event(), threading.Event()

    def is_wanted() -> bool:
        asked.set()
        return wanted.is_set()

    seen: list[list[int]] = []
    reader = threading.Thread(target=lambda: seen.extend(batched(source.stream(), 4, may_close=is_wanted)))
    reader.start()
    assert asked.wait(PLENTY_S)
    assert not seen, "a batch of two was closed for nobody"
    source.go_on.set()
    reader.join(PLENTY_S)
    assert seen == [[0, 1, 2, 3], [4]]


def test_a_batch_that_is_wanted_meanwhile_is_closed() -> None:
    source, wanted = Source(length=5, pauses=[2]), threading.Event()
    batches = batched(source.stream(), 4, may_close=wanted.is_set)
    threading.Timer(0.1, wanted.set).start()
    assert next(iter(batches)) == [0, 1]
    source.go_on.set()
    assert [value for batch in batches for value in batch] == [2, 3, 4]


def test_stopped_ends_a_batch_that_nobody_wants() -> None:
    source, stop = Source(pauses=[2]), threading.Event()
    threading.Timer(0.1, stop.set).start()
    assert list(batched(source.stream(), 4, may_close=lambda: False, stopped=stop.is_set)) == []
    source.go_on.set()


def test_the_stream_is_read_ahead_by_at_most_two_batches() -> None:
    source = Source()
    batches = batched(source.stream(), 4)
    for taken in range(1, 200):
        assert next(batches) == list(range(4 * taken - 4, 4 * taken))
        in_hand = 1
        assert source.pulled <= 4 * taken + 2 * 4 + in_hand
    batches.close()  # type: ignore[attr-defined]


def test_it_is_read_ahead_while_nobody_asks() -> None:
    source = Source(pauses=[3 * 4 - 1])
    batches = batched(source.stream(), 4)
    next(batches)
    assert source.reached.wait(PLENTY_S), "one batch is out, two wait but for one value"
    source.go_on.set()
    batches.close()  # type: ignore[attr-defined]


def test_closing_ends_the_thread_and_closes_the_stream() -> None:
    before = feeders()
    source = Source()
    batches = batched(source.stream(), 5)
    next(batches)
    threads = feeders() - before
    assert len(threads) == 1
    assert not source.closed.is_set()
    batches.close()  # type: ignore[attr-defined]
    assert source.closed.wait(PLENTY_S)
    wait_for_end(threads)


@pytest.mark.parametrize("length", [0, 7])
def test_the_end_of_the_stream_ends_the_thread(length: int) -> None:
    before = feeders()
    source = Source(length=length)
    batches = batched(source.stream(), 3)
    started: set[threading.Thread] = set()
    for _ in batches:
        started |= feeders() - before
    wait_for_end(started or feeders() - before)
    assert source.closed.is_set()


def test_a_consumer_that_raises_closes_the_stream() -> None:
    source = Source()

    def consume() -> None:
        for batch in batched(source.stream(), 2):
            raise ValueError(batch)

    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        consume()
    assert source.closed.wait(PLENTY_S)


def test_stopped_ends_while_the_stream_is_silent() -> None:
    before = feeders()
    source = Source(pauses=[1])
    stop = threading.Event()
    batches = batched(source.stream(), 8, stopped=stop.is_set)
    assert next(batches) == [0]
    assert source.reached.wait(PLENTY_S)
    stop.set()
    assert list(batches) == []
    assert source.pulled == 1, "it ended while the stream still said nothing"
    threads = feeders() - before
    source.go_on.set()
    wait_for_end(threads)
    assert source.closed.is_set()


def test_once_stopped_no_further_batch_is_yielded() -> None:
    source = Source(pauses=[0, 3])

    def stopped() -> bool:
        """Say no until a batch is being gathered; yes once it is full."""
        source.go_on.set()
        return source.pulled >= 3

    assert list(batched(source.stream(), 3, max_wait_s=PLENTY_S, stopped=stopped)) == []
    assert source.pulled >= 3


def test_stopped_from_the_beginning_yields_nothing() -> None:
    assert list(batched(range(9), 2, stopped=lambda: True)) == []


def test_a_stream_that_cannot_begin_raises() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise OSError("no stream")

    with pytest.raises(OSError, match="no stream"):
        list(batched(Broken(), 2))


def test_a_stream_whose_end_fails_raises() -> None:
    class Closing:
        """Not a generator; its `close` fails after all was given."""

        def __init__(self) -> None:
            self.values = iter([1, 2, 3])

        def __iter__(self) -> Closing:
            return self

        def __next__(self) -> int:
            return next(self.values)

        def close(self) -> None:
            raise OSError("cannot close")

    seen: list[int] = []
    with pytest.raises(OSError, match="cannot close"):
        drain(batched(Closing(), 2), seen)
    assert seen == [1, 2, 3]
