"""The stage: order, one ending an item, a bounded window, a budget of pixels, a prompt end."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipmod_cli.decode import stage
from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeLimits, DecodeOptions
from clipmod_cli.decode.stage import FREE_PIXELS, PixelBudget, free_pixels
from clipmod_cli.results import Settled
from clipmod_cli.types import Box, Failure, Frame, Geometry, Item, Media, View
from tests.decode.decoding import decode
from tests.decode.pictures import CENTRE, WHOLE, check_law, encode, quarters

T = TypeVar("T")

GIF = encode(quarters(), "GIF", save_all=True, append_images=[quarters([(9, 9, 9)] * 4)], duration=100)
KINDS = [encode(quarters(), "PNG"), encode(quarters(), "JPEG"), b"", b"garbage", GIF, GIF[:-30]]


def through_pickle(value: T) -> T:
    copy: T = pickle.loads(pickle.dumps(value))  # noqa: S301 — these are our own bytes
    return copy


def items(kinds: Sequence[bytes]) -> list[Item]:
    return [Item(source=str(index), index=index, data=data) for index, data in enumerate(kinds)]


@settings(max_examples=40)
@given(
    kinds=st.lists(st.sampled_from(KINDS), max_size=25),
    workers=st.integers(1, 4),
    ahead=st.none() | st.integers(1, 6),
    budget=st.integers(1, 4000),
)
def test_every_item_ends_once_in_its_turn(
    kinds: list[bytes], workers: int, ahead: int | None, budget: int
) -> None:
    given_items = items(kinds)
    options = DecodeOptions(coverage=CENTRE, limits=DecodeLimits(pixels_in_flight=budget))
    found = list(decode(given_items, [WHOLE], options, workers, ahead=ahead))
    groups = [list(group) for _, group in groupby(found, key=lambda result: result.item.index)]
    assert [group[0].item for group in groups] == given_items
    for item, group in zip(given_items, groups, strict=True):
        check_law(item, group)


def test_no_more_is_pulled_than_the_window_holds() -> None:
    pulled: list[int] = []

    def source() -> Iterator[Item]:
        for item in items([KINDS[0]] * 40):
            pulled.append(item.index)
            yield item

    taken = 0
    for _ in decode(source(), [WHOLE], DecodeOptions(coverage=CENTRE), 2, ahead=5):
        assert len(pulled) - taken <= 5
        taken += 1
    assert taken == len(pulled) == 40


def _carrying(sizes: Sequence[int], pulled: list[int]) -> Iterator[Item]:
    for index, size in enumerate(sizes):
        pulled.append(index)
        yield Item(source=str(index), index=index, data=KINDS[0] + bytes(size))


@given(
    sizes=st.lists(st.sampled_from([0, 3_000, 9_000, 50_000]), max_size=20),
    workers=st.integers(1, 3),
    ahead=st.integers(1, 20),
)
@settings(max_examples=40)
def test_no_item_is_pulled_while_too_many_bytes_wait(sizes: list[int], workers: int, ahead: int) -> None:
    most = 10_000
    pulled: list[int] = []
    carried = [len(KINDS[0]) + size for size in sizes]
    taken = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "MAX_CARRIED_BYTES", most)
        for result in decode(
            _carrying(sizes, pulled), [WHOLE], DecodeOptions(coverage=CENTRE), workers, ahead=ahead
        ):
            waiting = carried[taken : len(pulled)]
            assert sum(waiting[:-1]) <= most, "the last one was pulled before there was room for it"
            assert result.item.index == taken
            taken += 1
    assert taken == len(sizes)


@given(most=st.integers(0, 5), workers=st.integers(1, 3), kinds=st.lists(st.sampled_from(KINDS), max_size=30))
@settings(max_examples=40)
def test_no_item_is_pulled_while_too_many_pixels_wait(most: int, workers: int, kinds: list[bytes]) -> None:
    """An animation has more pixels than all that may wait, and is decoded all the same."""
    one = decode_item(items(KINDS)[0], [WHOLE], DecodeOptions(coverage=CENTRE))[0]
    assert isinstance(one, Frame)
    size = one.inputs[WHOLE].nbytes
    pulled: list[int] = []

    def source() -> Iterator[Item]:
        for item in items([KINDS[0]] * 30 + kinds):
            pulled.append(item.index)
            yield item

    in_hand = stage.QUEUED_PER_WORKER * workers
    taken: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "MAX_DECODED_BYTES", most * size)
        for result in decode(source(), [WHOLE], DecodeOptions(coverage=CENTRE), workers, ahead=60):
            taken.add(result.item.index)
            if len(pulled) <= 30:
                # those that may wait, the one that makes them too many, and what is being decoded then
                assert len(pulled) - len(taken) <= most + 1 + in_hand
    assert len(taken) == len(pulled) == 30 + len(kinds)


def test_many_bytes_are_let_go_once_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SMALL_BYTES", len(KINDS[0]) + 1)
    large = Item(source="a.zip", index=7, member="m", data=GIF + bytes(10_000), mtime_ns=5)
    (small,) = items(KINDS[:1])
    lost = Item(source="b.zip", index=8, data=b"garbage" * 10_000)
    *shots, one, failed = decode([large, small, lost], [WHOLE], DecodeOptions(coverage=CENTRE), 1)
    assert len(shots) == 2
    assert shots[0].item is shots[1].item
    assert (shots[0].item.source, shots[0].item.member, shots[0].item.index) == ("a.zip", "m", 7)
    assert shots[0].item.mtime_ns == 5
    assert [result.item.data for result in (*shots, failed)] == [None] * 3
    assert one.item is small


def test_a_video_keeps_its_bytes_for_a_second_look() -> None:
    item = Item(source="a.zip", index=0, member="film.mp4", data=bytes(stage.SMALL_BYTES))
    film = [
        Frame(item=item, media=Media(started=0.0, kind="video"), view=View(box=Box(0, 0, 1, 1)), inputs={})
    ]
    assert stage._drop_data(item, list(film)) == film


@given(most=st.integers(1, 10**9), workers=st.integers(1, 256))
def test_what_workers_have_for_themselves_leaves_half_to_those_who_ask(most: int, workers: int) -> None:
    assert 0 <= workers * free_pixels(most, workers) <= most / 2


def test_workers_have_enough_for_themselves_where_there_is_enough() -> None:
    assert free_pixels(200_000_000, 16) == FREE_PIXELS


def test_nothing_is_pulled_before_it_is_asked_for() -> None:
    source = iter(items(KINDS))
    decode(source, [WHOLE], DecodeOptions(coverage=CENTRE), 1)
    assert len(list(source)) == len(KINDS)


def test_a_failure_of_the_source_keeps_its_place() -> None:
    first, second, third = items(KINDS[:1] * 3)
    lost = Failure(item=second, stage="source", code="timeout", message="it took too long")
    found = list(decode([first, lost, third], [WHOLE], DecodeOptions(coverage=CENTRE), 2, ahead=1))
    assert [result.item for result in found] == [first, second, third]
    assert found[1] is lost


def test_a_slow_source_does_not_hold_back_what_is_ready() -> None:
    seen = threading.Event()

    def source() -> Iterator[Item]:
        first, second = items(KINDS[:2])
        yield first
        assert seen.wait(60), "the first result waited for the second item"
        yield second

    stage = decode(source(), [WHOLE], DecodeOptions(coverage=CENTRE), 2)
    assert next(stage).item.index == 0
    seen.set()
    assert [result.item.index for result in stage] == [1]


def test_what_the_source_raises_comes_after_the_results_before_it() -> None:
    def source() -> Iterator[Item]:
        yield from items(KINDS[:2])
        raise RuntimeError("the list is broken")

    found: list[Frame | Settled] = []
    with pytest.raises(RuntimeError, match="the list is broken"):
        found.extend(decode(source(), [WHOLE], DecodeOptions(coverage=CENTRE), 2))
    assert [result.item.index for result in found] == [0, 1]


def test_leaving_early_closes_the_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[Item]:
        try:
            index = 0
            while True:
                yield Item(source="x", index=index, data=KINDS[0])
                index += 1
        finally:
            closed.set()

    stage = decode(source(), [WHOLE], DecodeOptions(coverage=CENTRE), 2, ahead=3)
    next(stage)
    assert isinstance(stage, Iterator)
    stage.close()
    assert closed.wait(60)


def test_leaving_does_not_wait_for_a_source_that_never_yields() -> None:
    never = threading.Event()

    def source() -> Iterator[Item]:
        yield from items(KINDS[:1])
        never.wait()

    stage = decode(source(), [WHOLE], DecodeOptions(coverage=CENTRE), 1)
    next(stage)
    stage.close()
    never.set()


def test_the_budget_of_pixels_is_kept() -> None:
    budget = PixelBudget(100)
    held: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def take(pixels: int) -> None:
        for _ in range(40):
            with budget.hold(pixels):
                with lock:
                    held.append(pixels)
                    most.append(sum(held))
                    if pixels > 100:
                        assert held == [pixels]
                with lock:
                    held.remove(pixels)

    threads = [threading.Thread(target=take, args=(pixels,)) for pixels in (30, 50, 60, 90, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(total <= 100 or total == 500 for total in most)
    assert most.count(500) == 40


def test_the_budget_is_given_back_after_a_failure() -> None:
    options = DecodeOptions(coverage=CENTRE, limits=DecodeLimits(pixels_in_flight=1))
    torn = encode(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)), "AVIF"
    )
    kinds = [torn[: len(torn) * 9 // 10], KINDS[0]] * 5
    found = list(decode(items(kinds), [WHOLE], options, 3))
    assert [isinstance(result, Failure) for result in found] == [True, False] * 5


def test_a_worker_process_could_do_the_same() -> None:
    (item,) = items([GIF])
    options = DecodeOptions(coverage=CENTRE, limits=DecodeLimits(max_pixels=10_000))
    geometry = Geometry(fit="squash", size=(4, 4))
    assert through_pickle(([geometry], options)) == ([geometry], options)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        found = executor.submit(decode_item, item, [WHOLE], options).result()
    here = decode_item(item, [WHOLE], options)
    assert len(found) == len(here) == 2
    for there, local in zip(found, here, strict=True):
        assert isinstance(there, Frame)
        assert isinstance(local, Frame)
        assert (there.item.source, there.number, there.time_s, there.last) == (
            local.item.source,
            local.number,
            local.time_s,
            local.last,
        )
        assert there.media.sha256 == local.media.sha256
        assert np.array_equal(there.inputs[WHOLE], local.inputs[WHOLE])


def test_a_failure_can_be_sent_between_processes() -> None:
    (item,) = items([b"garbage"])
    (failed,) = decode_item(item, [WHOLE], DecodeOptions(coverage=CENTRE))
    assert isinstance(failed, Failure)
    copy = through_pickle(failed)
    assert (copy.code, copy.message, copy.media) == (failed.code, failed.message, failed.media)
