"""Hits in time: where they begin and end, and which are too short to decide."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.judge.spans import ROUNDING_S, find_segments, persistent_frames
from clipmod_cli.types import Box, FrameScore, Segment, View


def frame(
    score: float, time_s: float, number: int = 0, category: str = "nude", threshold: float = 0.5
) -> FrameScore:
    return FrameScore(
        number=number,
        time_s=time_s,
        view=View(box=Box(0, 0, 8, 8)),
        category=category,
        confidence=score,
        unsafe_score=score,
        probabilities={},
        agreement=1.0,
        by_model={},
        hit=score >= threshold,
    )


def frames_of(
    scores: Sequence[float], times: Sequence[float] | None = None, threshold: float = 0.5
) -> list[FrameScore]:
    """Return frames with these unsafe scores, a second each unless told when."""
    shown = range(len(scores)) if times is None else times
    pairs = enumerate(zip(scores, shown, strict=True))
    return [frame(score, float(at), i, threshold=threshold) for i, (score, at) in pairs]


def spans_of(segments: Sequence[Segment]) -> list[tuple[float, float, float, float]]:
    return [(s.start_s, s.end_s, s.peak_unsafe_score, s.peak_time_s) for s in segments]


@pytest.mark.parametrize(
    ("scores", "duration_s", "expected"),
    [
        ([0.1, 0.2], 2.0, []),
        ([0.9], 3.0, [(0, 3, 0.9, 0)]),
        ([0.5, 0.4], 2.0, [(0, 1, 0.5, 0)]),  # at the threshold is a hit
        ([0.1, 0.6, 0.9, 0.7, 0.1], 5.0, [(1, 4, 0.9, 2)]),
        ([0.9, 0.1, 0.8], 3.5, [(0, 1, 0.9, 0), (2, 3.5, 0.8, 2)]),
        ([0.1, 0.9], None, [(1, 1, 0.9, 1)]),
        ([0.1, 0.9], 0.5, [(1, 1, 0.9, 1)]),  # a duration that was wrongly told ends nothing early
        ([0.7, 0.7], 2.0, [(0, 2, 0.7, 0)]),  # of equal peaks the first
    ],
)
def test_segments_by_table(
    scores: list[float], duration_s: float | None, expected: list[tuple[float, float, float, float]]
) -> None:
    assert spans_of(find_segments(frames_of(scores), duration_s)) == expected


def test_a_segment_has_the_category_of_its_worst_frame() -> None:
    frames = [frame(0.6, 0, category="nude"), frame(0.9, 1, category="gore"), frame(0.7, 2, category="nude")]
    (segment,) = find_segments(frames, 3.0)
    assert segment.category == "gore"


@pytest.mark.parametrize(
    ("scores", "persistence_s", "kept"),
    [
        ([0.1, 0.9, 0.1], 0.0, [0, 1, 2]),
        ([0.1, 0.9, 0.1], 1.0, [0, 1, 2]),  # exactly as long as it must be
        ([0.1, 0.9, 0.1], 1.5, [0, 2]),
        ([0.1, 0.9, 0.9, 0.1, 0.9], 2.0, [0, 1, 2, 3]),
        ([0.9, 0.9], 5.0, [0, 1]),  # as long as the whole animation always counts
        ([0.9, 0.1], 2.0, [1]),
        ([0.1, 0.1], 9.0, [0, 1]),
    ],
)
def test_short_hits_do_not_decide(scores: list[float], persistence_s: float, kept: list[int]) -> None:
    frames = frames_of(scores)
    counted = persistent_frames(frames, float(len(scores)), persistence_s)
    assert [one.number for one in counted] == kept


def test_a_hit_is_not_too_short_by_a_rounding() -> None:
    frames = frames_of([0.1, 0.9, 0.1], [0.0, 1.3, 2.3])
    assert 2.3 - 1.3 < 1.0
    assert len(persistent_frames(frames, 3.0, 1.0)) == 3


def test_without_a_duration_every_hit_counts() -> None:
    frames = frames_of([0.1, 0.9, 0.1])
    assert list(persistent_frames(frames, None, 60.0)) == frames


def test_frames_shown_at_the_same_time_are_not_mixed_up() -> None:
    """As the default image of an APNG, which has no time of its own."""
    frames = frames_of([0.9, 0.1, 0.9], [0, 0, 0])
    assert [f.number for f in persistent_frames(frames, 10.0, 5.0)] == [1, 2]
    frames = frames_of([0.9, 0.1], [0, 0])
    assert [f.number for f in persistent_frames(frames, 10.0, 5.0)] == [1]


shares = st.floats(0, 1)
steps = st.lists(st.tuples(shares, st.sampled_from([0.0, 0.1, 1.0, 7.5])), min_size=1, max_size=12)


def timed(steps: Sequence[tuple[float, float]], threshold: float) -> tuple[list[FrameScore], float]:
    """Return frames that last as long as the steps say, and how long all last."""
    *starts, duration_s = accumulate((length for _, length in steps), initial=0.0)
    return frames_of([score for score, _ in steps], starts, threshold), duration_s


@given(steps=steps, threshold=shares)
def test_law_segments_are_the_hits_in_order_without_overlap(
    steps: list[tuple[float, float]], threshold: float
) -> None:
    frames, duration_s = timed(steps, threshold)
    segments = find_segments(frames, duration_s)
    assert all(s.start_s <= s.peak_time_s <= s.end_s <= duration_s for s in segments)
    assert all(one.end_s <= next_.start_s for one, next_ in pairwise(segments))
    hits = [f.unsafe_score for f in frames if f.unsafe_score >= threshold]
    assert max((s.peak_unsafe_score for s in segments), default=None) == max(hits, default=None)
    assert all(s.peak_unsafe_score >= threshold for s in segments)
    changes = sum(after.unsafe_score >= threshold > before.unsafe_score for before, after in pairwise(frames))
    assert len(segments) == changes + (frames[0].unsafe_score >= threshold)


@given(steps=steps, threshold=shares, persistence_s=st.floats(0, 20))
def test_law_only_frames_of_short_hits_are_left_out(
    steps: list[tuple[float, float]], threshold: float, persistence_s: float
) -> None:
    frames, duration_s = timed(steps, threshold)
    kept = {f.number for f in persistent_frames(frames, duration_s, persistence_s)}
    assert kept, "something always decides"
    assert {f.number for f in frames if f.unsafe_score < threshold} <= kept
    needed = min(persistence_s, duration_s) - ROUNDING_S
    long = [s for s in find_segments(frames, duration_s) if s.end_s - s.start_s >= needed]
    assert any(f.number in kept for f in frames if f.unsafe_score >= threshold) == bool(long)


@given(steps=steps, threshold=shares)
def test_law_without_persistence_every_frame_counts(
    steps: list[tuple[float, float]], threshold: float
) -> None:
    frames, duration_s = timed(steps, threshold)
    assert list(persistent_frames(frames, duration_s, 0.0)) == frames
