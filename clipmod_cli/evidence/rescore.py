"""Judges stored evidence by another policy. Reads no picture and runs no vision model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from clipmod_cli.evidence.rows import ItemEvidence
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.frame_scores import score_frame, score_frames
from clipmod_cli.judge.judging import Recheck, judge_with_rechecks
from clipmod_cli.results import Result, without_banks
from clipmod_cli.types import Evidence, Failure, FrameScore, Media, Verdict

VIEWS_AT_ONCE: Final = 256
"""Views that are scored together: beyond that nothing is won."""


def rescore(stored: Iterable[ItemEvidence], criteria: Criteria, *, max_gap_s: float) -> Iterator[Result]:
    """Yield one result for each input, in the order of the evidence.

    Args:
        stored: the evidence; it is used up.
        criteria: the policy made ready for the models that looked.
        max_gap_s: the longest gap between key frames of a video when the evidence was stored, in seconds.
    """
    for some in _gathered(stored):
        views = [view for evidence in some for view in evidence.views]
        scores = dict(zip(map(id, views), score_frames(views, criteria), strict=True))
        for evidence in some:
            yield judge_one(evidence, criteria, max_gap_s=max_gap_s, scores=scores)


def _gathered(stored: Iterable[ItemEvidence]) -> Iterator[list[ItemEvidence]]:
    """Yield inputs with at least `VIEWS_AT_ONCE` views together; the last ones with what they have."""
    some: list[ItemEvidence] = []
    count = 0
    for evidence in stored:
        some.append(evidence)
        count += len(evidence.views)
        if count >= VIEWS_AT_ONCE:
            yield some
            some, count = [], 0
    yield some


def _note_gaps(media: Media, wanted_s: float, stored_s: float) -> None:
    """Note a gap between frames that this policy would have had filled."""
    if media.kind != "image" and wanted_s < stored_s and (media.largest_gap_s or 0.0) > wanted_s:
        media.note_unseen("unsampled")


def judge_one(
    evidence: ItemEvidence,
    criteria: Criteria,
    *,
    max_gap_s: float,
    scores: Mapping[int, FrameScore | Failure] = MappingProxyType({}),
) -> Verdict | Failure:
    """Return the result of one input, as `rescore` does.

    Args:
        evidence: of the input.
        criteria: the policy made ready for the models that looked.
        max_gap_s: the longest gap between key frames of a video when the evidence was stored, in seconds.
        scores: by the `id` of a view, where they are known already.
    """
    if evidence.media is not None:
        _note_gaps(evidence.media, criteria.policy.max_gap_s, max_gap_s)
    rechecked: deque[Evidence | Failure] = deque()

    def stream() -> Iterator[Evidence | Failure]:
        yield from evidence.stream()
        yield from rechecked

    def score_of(view: Evidence) -> FrameScore | Failure:
        return scores.get(id(view)) or score_frame(view, criteria)

    for judged in judge_with_rechecks(stream(), criteria, score_of=score_of):
        if not isinstance(judged, Recheck):
            return without_banks(judged)
        rechecked.extend(_answer(judged, evidence))
    raise AssertionError("evidence of an input ends with its last frame")


def _answer(request: Recheck, evidence: ItemEvidence) -> Sequence[Evidence | Failure]:
    """Return the stored evidence of a recheck. If there is none of a span, the input needs review."""
    stored = evidence.recheck_spans or ()
    if evidence.media is not None and not all(_is_within(span, stored) for span in request.spans):
        evidence.media.note_unseen("unsampled")
    frames = [seen for seen in evidence.recheck if _is_within((seen.time_s, seen.time_s), request.spans)]
    if frames:
        return [replace(seen, last=seen is frames[-1]) for seen in frames]
    return [Failure(item=request.item, stage="decode", code="video_error", message="no frames are stored")]


def _is_within(span: tuple[float, float], spans: Iterable[Sequence[float]]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in spans)
