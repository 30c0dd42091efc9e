"""What decoding costs an item: its own time, and not that of others which it waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from clipmod_cli.decode import item as decoding
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.types import Item
from tests.decode.pictures import CENTRE, WHOLE, encode, quarters


class Clock:
    """Passes by 1 s each time it is read."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        self.now_s += 1.0
        return self.now_s


@pytest.mark.parametrize("data", [encode(quarters(), "PNG"), encode(quarters(), "PNG")[:-40]])
def test_waiting_for_pixels_of_the_budget_is_no_cost(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    waits: list[int] = []

    @contextmanager
    def gate(pixels: int) -> Iterator[None]:
        clock.now_s += 1000.0
        waits.append(pixels)
        yield

    monkeypatch.setattr(decoding, "time", clock)
    item = Item(source="a.png", index=0, data=data)
    *_, last = decoding.decode_item(item, [WHOLE], DecodeOptions(coverage=CENTRE), gate=gate)
    assert waits
    assert last.media is not None
    assert last.media.decode_time_ms is not None
    assert last.media.decode_time_ms < 10_000
