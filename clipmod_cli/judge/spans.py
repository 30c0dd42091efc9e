"""Hits in the scored frames of an animation or video: their spans, and which last long enough."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from clipmod_cli.types import FrameScore, Segment

ROUNDING_S = 1e-6
"""Times are rounded to the microsecond: a hit from 1.3 s to 2.3 s must last a second."""

EDGE_TOLERANCE_S = 0.5
"""An edge known this well needs no recheck."""

MAX_EDGES = 16
"""Edges of one video that are rechecked: an action film may have hundreds."""


def own_frames(frames: Sequence[FrameScore], duration_s: float | None) -> Sequence[FrameScore]:
    """Return an animation's or video's own frames, without those of further pictures and films in the file.

    Their times lie behind its end.
    """
    return [frame for frame in frames if duration_s is None or frame.time_s <= duration_s]


def find_segments(frames: Sequence[FrameScore], duration_s: float | None) -> tuple[Segment, ...]:
    """Return the runs of consecutive scored frames that are hits, in order.

    A run ends where the next scored frame begins, or with the animation.
    """
    return tuple(_segment(run) for hit, run in _runs(frames, duration_s) if hit)


def uncertain_edges(frames: Sequence[FrameScore]) -> tuple[tuple[float, float], ...]:
    """Return the first `MAX_EDGES` (start, end) in seconds between which a hit begins or ends.

    Each lies between two neighbouring frames that are more than `EDGE_TOLERANCE_S` apart.
    """
    edges = [
        (before.time_s, after.time_s)
        for before, after in pairwise(frames)
        if before.hit != after.hit and after.time_s - before.time_s > EDGE_TOLERANCE_S
    ]
    return tuple(edges[:MAX_EDGES])


def _runs(
    frames: Sequence[FrameScore], duration_s: float | None
) -> list[tuple[bool, list[tuple[FrameScore, float]]]]:
    """Return (whether a hit, its frames with their ends in seconds) for each run of frames."""
    ends = [frame.time_s for frame in frames[1:]]
    ends += [max(duration_s or 0.0, frame.time_s) for frame in frames[-1:]]
    timed = zip(frames, ends, strict=True)
    return [(hit, list(run)) for hit, run in groupby(timed, key=lambda p: p[0].hit)]


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
    frames: Sequence[FrameScore], duration_s: float | None, persistence_s: float
) -> Sequence[FrameScore]:
    """Return the frames that may decide: all but those of hits shorter than `persistence_s`.

    A hit as long as the whole animation always counts, however short the animation is. So does one in a
    further picture, which is shown for as long as a person likes.
    """
    needed = min(persistence_s, duration_s or 0.0) - ROUNDING_S
    own = own_frames(frames, duration_s)
    counted = [
        frame
        for hit, run in _runs(own, duration_s)
        if not hit or run[-1][1] - run[0][0].time_s >= needed
        for frame, _ in run
    ]
    return [*counted, *frames[len(own) :]] or frames
