"""The walk runs ahead of its consumer in its own thread, within bounds, and tells the total early."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import cast

import pytest

from clipmod_cli.sources.ahead import ITEM_BYTES, MAX_AHEAD_BYTES, walk_ahead
from clipmod_cli.sources.stores.base import ObjectEntry, ObjectStore, StoredItem
from clipmod_cli.types import Failure, Item

PATIENCE_S = 10.0


def items(count: int, *, data: bytes | None = None) -> Iterator[Item | Failure]:
    for index in range(count):
        yield Item(source=f"{index}", index=index, data=data)


def test_the_total_is_known_before_the_first_item_is_judged() -> None:
    totals: list[int] = []
    known = threading.Event()

    def set_total(total: int) -> None:
        totals.append(total)
        known.set()

    walked = walk_ahead(items(1_000), set_total)
    first = next(walked)
    assert known.wait(PATIENCE_S)
    assert totals == [1_000]
    assert len([first, *walked]) == 1_000


def test_objects_of_a_store_are_listed_ahead_too() -> None:
    """Without their bytes, which are read when they are due."""
    entry = ObjectEntry(key="a.png", size=1, mtime_ns=1)
    store = cast("ObjectStore", None)
    known = threading.Event()
    stored = (StoredItem(source=f"s3://b/{n}", index=n, store=store, entry=entry) for n in range(3_000))
    walked = walk_ahead(stored, lambda total: known.set() if total == 3_000 else None)
    next(walked)
    assert known.wait(PATIENCE_S)
    assert len(list(walked)) == 2_999


def test_items_that_carry_bytes_wait_for_their_turn() -> None:
    pulled: list[int] = []

    def carrying() -> Iterator[Item | Failure]:
        for item in items(5, data=b"x"):
            pulled.append(1)
            yield item

    walked = walk_ahead(carrying(), lambda _: None)
    next(walked)
    assert len(pulled) <= 3  # one taken, one in the queue, one waiting for room
    assert len(list(walked)) == 4


def test_memory_is_bounded() -> None:
    produced = 0
    most = MAX_AHEAD_BYTES // ITEM_BYTES

    def endless() -> Iterator[Item | Failure]:
        nonlocal produced
        while True:
            produced += 1
            yield Item(source="x" * 10_000, index=produced)

    walked = walk_ahead(endless(), lambda _: None)
    for _ in range(10):
        next(walked)
    assert produced < most
    walked.close()


def test_an_error_of_the_walk_keeps_its_place_and_there_is_no_total() -> None:
    totals: list[int] = []

    def failing() -> Iterator[Item | Failure]:
        yield from items(2)
        raise OSError("gone")

    walked = walk_ahead(failing(), totals.append)
    assert [next(walked), next(walked)]
    with pytest.raises(OSError, match="gone"):
        next(walked)
    assert not totals
