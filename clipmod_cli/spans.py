"""Spans of scored frames: which hits there are in an animation, and which last long enough.

Pure arithmetic on times and scores; what follows from a span is for the judging stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from clipmod_cli.types import FrameScore, Segment


def find_segments(
    frames: Sequence[FrameScore], duration_s: float | None, threshold: float
) -> tuple[Segment, ...]:
    """Return the runs of consecutive scored frames at or over the threshold, in order.

    A run ends where the next scored frame begins, or with the animation.
    """
    ends = [frame.time_s for frame in frames[1:]] + [max(duration_s or 0.0, frames[-1].time_s)]
    timed = list(zip(frames, ends, strict=True))
    runs = groupby(timed, key=lambda pair: pair[0].unsafe_score >= threshold)
    return tuple(_segment(list(run)) for hit, run in runs if hit)


def _segment(run: Sequence[tuple[FrameScore, float]]) -> Segment:
    peak = max((frame for frame, _ in run), key=lambda frame: frame.unsafe_score)
    return Segment(
        start_s=run[0][0].time_s,
        end_s=run[-1][1],
        category=peak.category,
        peak_unsafe_score=peak.unsafe_score,
        peak_time_s=peak.time_s,
    )


def persistent_frames(
    frames: Sequence[FrameScore],
    segments: Sequence[Segment],
    duration_s: float | None,
    persistence_s: float,
) -> Sequence[FrameScore]:
    """Return the frames that may decide: all but those of hits shorter than `persistence_s`.

    A hit as long as the whole animation always counts, however short the animation is.
    """
    needed = min(persistence_s, duration_s or 0.0)
    short = [s for s in segments if s.end_s - s.start_s < needed]
    kept = [
        f
        for f in frames
        if not any(s.start_s <= f.time_s < s.end_s or f.time_s == s.peak_time_s for s in short)
    ]
    return kept or frames
