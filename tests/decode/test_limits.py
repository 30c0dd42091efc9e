"""Which frames are looked at, and how the setting is read."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.decode.limits import (
    KEY_FRAMES,
    MAX_SCORED_FRAMES,
    DecodeLimits,
    FrameSampling,
    check_size,
    parse_frames,
)
from clipmod_cli.errors import ItemError, SettingsError

SAMPLINGS = st.sampled_from(["key", "dense", "fps=0.5", "fps=3", "fps=1000", "max=2", "max=7", "max=256"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", FrameSampling()),
        ("key", FrameSampling(mode="key")),
        (" dense ", FrameSampling(mode="dense")),
        ("fps=2", FrameSampling(mode="fps", value=2.0)),
        ("fps=0.25", FrameSampling(mode="fps", value=0.25)),
        ("max=2", FrameSampling(mode="max", value=2)),
        ("max=256", FrameSampling(mode="max", value=256)),
    ],
)
def test_a_sampling_is_read(text: str, expected: FrameSampling) -> None:
    assert parse_frames(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "Key", "key=1", "all", "fps", "fps=", "fps=0", "fps=-1", "fps=nan", "fps=inf", "fps=x", "dense=",
     "max=1", "max=0", "max=-3", "max=1025", "max=2.5", "max=²", "max", "fps=1,max=2"],
)  # fmt: skip
def test_a_wrong_sampling_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(SettingsError, match="--frames "):
        parse_frames(text)


@given(durations=st.lists(st.floats(0, 100), min_size=1, max_size=400), text=SAMPLINGS)
def test_first_and_last_are_always_chosen(durations: list[float], text: str) -> None:
    starts = [0.0, *accumulate(durations)][:-1]
    chosen = parse_frames(text).choose(starts)
    assert list(chosen) == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[-1] == len(starts) - 1
    assert len(chosen) <= min(MAX_SCORED_FRAMES, len(starts))


@given(count=st.integers(1, 400), text=st.sampled_from(["key", "dense", "max=7"]))
def test_as_many_as_allowed_are_chosen(count: int, text: str) -> None:
    most = {"key": KEY_FRAMES, "dense": MAX_SCORED_FRAMES, "max=7": 7}[text]
    chosen = parse_frames(text).choose([number * 0.1 for number in range(count)])
    assert len(chosen) == min(count, most)
    gaps = [later - earlier for earlier, later in pairwise(chosen)]
    assert max(gaps, default=0) <= count / (most - 1) + 2, "evenly, without a hole"


def test_short_frames_beside_a_long_one_are_still_seen() -> None:
    starts = [0.0] + [600 + 0.02 * number for number in range(100)]
    chosen = FrameSampling(mode="key").choose(starts)
    assert len(chosen) == KEY_FRAMES
    assert max(later - earlier for earlier, later in pairwise(chosen)) <= 5


def test_frames_a_second_are_taken_by_time() -> None:
    starts = [number * 0.1 for number in range(31)]
    assert FrameSampling(mode="fps", value=1).choose(starts) == (0, 10, 20, 30)
    assert FrameSampling(mode="fps", value=10).choose(starts)[-3:] == (28, 29, 30)


@pytest.mark.parametrize(
    ("size", "scale", "words"),
    [
        ((30_001, 1), 1, "30000 pixels"),
        ((20_000, 20_000), 8, "200 megapixels"),
        ((8000, 6251), 1, "50 megapixels"),
    ],
)
def test_a_picture_over_a_limit_is_refused_with_the_limit(
    size: tuple[int, int], scale: int, words: str
) -> None:
    with pytest.raises(ItemError, match=words) as refusal:
        check_size(*size, DecodeLimits(), scale=scale)
    assert refusal.value.code == "too_many_pixels"


@pytest.mark.parametrize(("size", "scale"), [((8000, 6250), 1), ((12_032, 9024), 2), ((30_000, 1), 1)])
def test_a_picture_at_a_limit_passes(size: tuple[int, int], scale: int) -> None:
    check_size(*size, DecodeLimits(), scale=scale)
