"""Evidence and criteria to verdicts. No I/O and no model.

An item is judged by its worst: of a picture's views the worst, of an animation or video the worst persistent
frame. Never by a mean, in which a short scene or a small part would not count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from clipmod_cli.judge.calibration import nsfw_probability
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.frame_scores import score_frame
from clipmod_cli.judge.readers import is_mostly_unmapped
from clipmod_cli.judge.spans import find_segments, own_frames, persistent_frames, uncertain_edges
from clipmod_cli.results import BankVerdict, Result, Settled
from clipmod_cli.types import (
    Decision,
    Evidence,
    Failure,
    FrameScore,
    Item,
    Media,
    ReviewReason,
    Verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recheck:
    """A request to decode more frames of a video: `spans` are (start, end) in seconds, rising."""

    item: Item
    spans: tuple[tuple[float, float], ...]


ScoreOf: TypeAlias = Callable[[Evidence], FrameScore | Failure]


@dataclass(slots=True)
class _ItemScores:
    """The scored frames of one item so far."""

    views: list[FrameScore] = field(default_factory=list)
    failure: Failure | None = None
    media: Media | None = None

    def add(self, seen: Evidence | Failure, score_of: ScoreOf) -> None:
        self.media = seen.media or self.media
        score = seen if isinstance(seen, Failure) else score_of(seen)
        if isinstance(score, Failure):
            self.failure = self.failure or score
        else:
            self.views.append(score)

    def add_recheck(self, closer: _ItemScores) -> None:
        """Add the frames of a recheck; its failures are ignored."""
        known = {view.time_s for view in self.views}
        self.views += [view for view in closer.views if view.time_s not in known]
        self.views.sort(key=lambda view: view.time_s)
        if self.media is not None and closer.media is not None:
            spent = (self.media.decode_time_ms or 0.0) + (closer.media.decode_time_ms or 0.0)
            self.media = replace(self.media, decode_time_ms=spent)

    @property
    def frames(self) -> list[FrameScore]:
        """Each frame by its worst view, the first of equals; times are those of all its views together."""
        by_frame: dict[tuple[int, float], list[FrameScore]] = {}
        for view in self.views:
            by_frame.setdefault((view.number, view.time_s), []).append(view)
        return [_worst_of(views) for views in by_frame.values()]


def _worst_of(views: Sequence[FrameScore]) -> FrameScore:
    worst = max(views, key=_severity)
    if len(views) == 1:
        return worst
    by_model = {
        name: replace(score, forward_ms=sum(v.by_model[name].forward_ms for v in views if name in v.by_model))
        for name, score in worst.by_model.items()
    }
    return replace(
        worst,
        by_model=by_model,
        category_scores=_highest(views),
        matched=_matched(views),
        stand_in=any(view.stand_in for view in views),
    )


def _severity(score: FrameScore) -> tuple[bool, float]:
    return score.hit, score.unsafe_score


def _highest(scores: Sequence[FrameScore]) -> dict[str, float]:
    """Return the highest score of each UNSAFE category."""
    return {name: max(each.category_scores[name] for each in scores) for name in scores[0].category_scores}


def _matched(scores: Sequence[FrameScore]) -> tuple[str, ...]:
    """Return the categories that are at their own threshold in any of these, from mild to severe."""
    matched = {name for each in scores for name in each.matched}
    return tuple(name for name in scores[0].category_scores if name in matched)


def judge(stream: Iterable[Evidence | Settled], criteria: Criteria) -> Iterator[Result]:
    """Yield one result for each item, in order, as soon as its last frame was scored."""
    for judged in judge_with_rechecks(stream, criteria, recheck=False):
        if isinstance(judged, Recheck):
            raise AssertionError("rechecks are off")  # noqa: TRY004 — a bug, not a wrong type
        yield judged


def judge_until_hit(
    stream: Iterable[Evidence | Settled], criteria: Criteria, hits: set[Item]
) -> Iterator[Result]:
    """Yield one result for each item, in order, as soon as a hit decides it.

    An item is in `hits` from its hit on: its other frames need no evidence. The caller removes it if it
    withholds the last of them.
    """
    gathered = _ItemScores()
    decided: Item | None = None
    for seen in stream:
        if isinstance(seen, BankVerdict):
            yield _timed(seen)
            continue
        if seen.item is decided:
            if seen.last:
                hits.discard(seen.item)
            continue
        gathered.add(seen, partial(score_frame, criteria=criteria))
        is_early = not seen.last and _is_hit(gathered, criteria)
        if is_early:
            decided = seen.item
            hits.add(seen.item)
        if is_early or seen.last:
            yield _conclude(seen.item, gathered, criteria, is_early=is_early)
            gathered = _ItemScores()


def _is_hit(gathered: _ItemScores, criteria: Criteria) -> bool:
    """Return whether the frames so far are NSFW, whatever follows."""
    if not criteria.policy.unsafe or not gathered.views:
        return False
    if not gathered.views[-1].hit:
        return False
    if not criteria.policy.persistence_s or gathered.media is None or gathered.media.kind == "image":
        return True
    if gathered.views[-1].time_s > (gathered.media.duration_s or 0.0):
        return True  # of a further picture in the file
    *_, segment = find_segments(gathered.frames, 0.0)
    return gathered.views[-1].time_s - segment.start_s >= criteria.policy.persistence_s


def _timed(verdict: BankVerdict) -> BankVerdict:
    return replace(verdict, total_ms=(time.perf_counter() - verdict.media.started) * 1000)


def judge_with_rechecks(
    stream: Iterable[Evidence | Settled],
    criteria: Criteria,
    *,
    recheck: bool = True,
    score_of: ScoreOf | None = None,
) -> Iterator[Result | Recheck]:
    """Yield one result for each item, in order; for some videos a `Recheck` before it, once.

    The caller puts the evidence of a `Recheck` next into `stream`, its last element with `last`.

    Args:
        stream: of evidence and failures.
        criteria: how it is judged.
        recheck: whether a `Recheck` may be asked for.
        score_of: returns a frame's scores where these are known already; None scores each as it comes.
    """
    score_of = score_of or partial(score_frame, criteria=criteria)
    gathered = _ItemScores()
    first: _ItemScores | None = None
    for seen in stream:
        if isinstance(seen, BankVerdict):
            yield _timed(seen)
            continue
        gathered.add(seen, score_of)
        if not seen.last:
            continue
        spans = _uncertain_spans(gathered, criteria) if recheck and first is None else ()
        if spans:
            first, gathered = gathered, _ItemScores()
            yield Recheck(item=seen.item, spans=spans)
            continue
        if first is not None:
            first.add_recheck(gathered)
            gathered, first = first, None
        yield _conclude(seen.item, gathered, criteria)
        gathered = _ItemScores()


def _uncertain_spans(gathered: _ItemScores, criteria: Criteria) -> tuple[tuple[float, float], ...]:
    if gathered.media is None or gathered.media.kind != "video" or not criteria.policy.unsafe:
        return ()
    return uncertain_edges(own_frames(gathered.frames, gathered.media.duration_s))


def _conclude(item: Item, scores: _ItemScores, criteria: Criteria, *, is_early: bool = False) -> Result:
    """Return the verdict. If a frame failed: NSFW if the other frames are, else the failure, never Safe.

    `is_early`: frames after the last one were not scored.
    """
    media, failure = scores.media, scores.failure
    if is_early and media is not None and media.kind != "image":
        media = replace(media, largest_gap_s=None, frames_sampling=f"{media.frames_sampling}, until a hit")
    if scores.views and media is not None:
        known = media if failure is None else replace(media, truncated=True)
        end_s = known.duration_s
        if is_early:
            end_s = min(scores.views[-1].time_s, math.inf if end_s is None else end_s)
        verdict = _verdict(item, known, scores, criteria, end_s=end_s)
        if is_early:
            verdict = replace(verdict, nsfw_probability=None)  # its highest score is not known
        if failure is None or verdict.decision == "NSFW":
            return verdict
    if failure is None:
        raise AssertionError("an item without frames has a failure")
    return replace(failure, media=failure.media or media, last=True)


def _verdict(
    item: Item, media: Media, scores: _ItemScores, criteria: Criteria, *, end_s: float | None
) -> Verdict:
    """Return the verdict; `end_s` is when the last scored frame ends."""
    frames = scores.frames
    own = own_frames(frames, media.duration_s) if media.kind != "image" else ()
    segments = find_segments(own, end_s)
    counted = persistent_frames(frames, end_s, criteria.policy.persistence_s)
    deciding = max(counted, key=_severity)
    has_stand_in = any(frame.stand_in for frame in frames)
    model_scores = [score for view in scores.views for score in view.by_model.values()]
    unmapped = any(is_mostly_unmapped(score.unmapped_share) for score in model_scores)
    reasons: list[ReviewReason] = [
        *criteria.unseen_reasons(media, unmapped=unmapped),
        *_unsure_reasons(deciding, counted, criteria),
    ]
    if len(counted) < len(frames):
        reasons.append("short_hit")
    if has_stand_in:
        reasons.append("fallback_model")
    return Verdict(
        item=item,
        media=media,
        decision=_decide(deciding, criteria),
        review_reasons=tuple(reasons),
        degraded=criteria.degraded or has_stand_in,
        deciding=deciding,
        frames=tuple(frames),
        views_scored=len(scores.views),
        segments=segments,
        unseen_categories=tuple(criteria.unseen),
        inference_ms=sum(score.forward_ms for score in model_scores),
        total_ms=(time.perf_counter() - media.started) * 1000,
        category_scores=_highest(counted),
        matched_categories=_matched(counted) if criteria.category_thresholds else None,
        nsfw_probability=nsfw_probability(deciding, scores.views, criteria.policy),
        skipped=_skipped(scores.views),
        bounds=_bounds(scores.views),
        decided_at=_decided_at(deciding, scores.views, criteria),
    )


def _skipped(views: Sequence[FrameScore]) -> tuple[str, ...]:
    """Return the members that were not asked about each of these, in the order of the ensemble."""
    return max((view.skipped for view in views), key=len)  # members are left out from the end


def _bounds(views: Sequence[FrameScore]) -> tuple[float, float] | None:
    """Return how low and how high the highest unsafe score could be; None if all members gave all scores."""
    if not any(view.bounds for view in views):
        return None
    lows, highs = zip(*(view.bounds or (view.unsafe_score,) * 2 for view in views), strict=True)
    return max(lows), max(highs)


def _decided_at(deciding: FrameScore, views: Sequence[FrameScore], criteria: Criteria) -> str | None:
    """Return the first model after which a view exited early; of a hit, the one that it was a hit after."""
    if deciding.hit:
        return deciding.decided_at
    order = [one.name for one in (*criteria.screens, *criteria.judges)]
    return min(
        (view.decided_at for view in views if view.decided_at is not None), key=order.index, default=None
    )


def _decide(deciding: FrameScore, criteria: Criteria) -> Decision | None:
    if not criteria.policy.unsafe:
        return None
    return "NSFW" if deciding.hit else "Safe"


def _unsure_reasons(
    deciding: FrameScore, counted: Sequence[FrameScore], criteria: Criteria
) -> list[ReviewReason]:
    reasons: list[ReviewReason] = []
    if deciding.agreement < criteria.policy.agreement_threshold:
        reasons.append("low_agreement")
    highest = _highest(counted)
    near = [(max(frame.unsafe_score for frame in counted), criteria.policy.review_band(criteria.threshold))]
    near += [(highest[one.name], one.band) for one in criteria.category_thresholds]
    if any(band is not None and band[0] <= score <= band[1] for score, band in near):
        reasons.append("review_margin")
    return reasons
