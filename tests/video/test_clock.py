"""Timestamps become seconds that never go back, whatever a stream claims."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.decode.video.tracks import StreamClock

STAMPS = st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=50)


@given(STAMPS, st.one_of(st.none(), st.floats(-1e9, 1e9, allow_nan=False)))
def test_time_never_goes_back(stamps: list[int | None], start_s: float | None) -> None:
    clock = StreamClock(1e-6, start_s)
    times = [clock.read(stamp) for stamp in stamps]
    assert times == sorted(times)


def test_times_are_told_from_the_containers_start_if_it_is_near() -> None:
    assert [StreamClock(0.1, 2.0).read(25), StreamClock(0.1, None).read(25)] == [0.5, 0.0]
    assert StreamClock(0.1, -3600.0).read(25) == 0.0


def test_a_small_step_back_is_carelessness_and_a_large_one_a_splice() -> None:
    clock = StreamClock(0.1, None)
    assert [clock.read(stamp) for stamp in (0, 10, 9, 20)] == pytest.approx([0, 1, 1.001, 2])
    clock = StreamClock(0.1, None)
    assert [clock.read(stamp) for stamp in (0, 100, 0, 10)] == pytest.approx([0, 10, 10.001, 11.04])
