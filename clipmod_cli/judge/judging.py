"""Evidence + policy → verdicts. Arithmetic only: no I/O, no model, no clock but the item's own.

A still is judged by its one frame. An animation is judged by its worst persistent evidence:
never by a mean, in which a short scene would drown.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from clipmod_cli.judge.certainty import PartialScores, score_bounds
from clipmod_cli.judge.criteria import Criteria, WeightedReader
from clipmod_cli.judge.readers import Probabilities
from clipmod_cli.judge.spans import find_segments, persistent_frames, unclear_edges
from clipmod_cli.types import (
    Decision,
    Detections,
    Evidence,
    Failure,
    FrameScore,
    Item,
    Media,
    ModelScore,
    Result,
    Verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recheck:
    """A wish to see more of a video: `spans` are (start, end) in seconds, rising."""

    item: Item
    spans: tuple[tuple[float, float], ...]


@dataclass(slots=True)
class _Gathered:
    """What has been seen of one item so far."""

    frames: list[FrameScore] = field(default_factory=list)
    broken: Failure | None = None
    media: Media | None = None

    def add(self, seen: Evidence | Failure, criteria: Criteria) -> None:
        self.media = seen.media or self.media
        score = seen if isinstance(seen, Failure) else score_frame(seen, criteria)
        if isinstance(score, Failure):
            self.broken = self.broken or score
        else:
            self.frames.append(score)

    def refine(self, closer: _Gathered) -> None:
        """Take in the frames of a second look. What failed in it only leaves the first one as it was."""
        known = {frame.time_s for frame in self.frames}
        self.frames += [frame for frame in closer.frames if frame.time_s not in known]
        self.frames.sort(key=lambda frame: frame.time_s)


def judge(stream: Iterable[Evidence | Failure], criteria: Criteria) -> Iterator[Result]:
    """Yield one result for each item, in order, as soon as its last frame was seen."""
    for judged in judge_closely(stream, criteria, again=False):
        if isinstance(judged, Recheck):
            raise AssertionError("no second look was offered")  # noqa: TRY004 — a bug, not a wrong type
        yield judged


def judge_closely(
    stream: Iterable[Evidence | Failure], criteria: Criteria, *, again: bool = True
) -> Iterator[Result | Recheck]:
    """Yield one result for each item, in order; for some videos a `Recheck` before it, once.

    Whoever takes a `Recheck` puts what it brings (its last element with `last`) next into `stream`.
    """
    gathered = _Gathered()
    first: _Gathered | None = None
    for seen in stream:
        gathered.add(seen, criteria)
        if not seen.last:
            continue
        spans = _find_unclear(gathered, criteria) if again and first is None else ()
        if spans:
            first, gathered = gathered, _Gathered()
            yield Recheck(item=seen.item, spans=spans)
            continue
        if first is not None:
            first.refine(gathered)
            gathered, first = first, None
        yield _conclude(seen.item, gathered.media, gathered.frames, gathered.broken, criteria)
        gathered = _Gathered()


def _find_unclear(gathered: _Gathered, criteria: Criteria) -> tuple[tuple[float, float], ...]:
    if gathered.media is None or gathered.media.kind != "video" or not criteria.policy.unsafe:
        return ()
    return unclear_edges(gathered.frames, criteria.threshold)


def score_frame(evidence: Evidence, criteria: Criteria) -> FrameScore | Failure:
    """Return the ensemble's scores for one frame, or a Failure if a score is not finite."""
    by_model: dict[str, ModelScore] = {}
    total: Probabilities = np.zeros(len(criteria.names))
    judges = _asked(evidence, criteria)
    for member in judges:
        shares = member.reader.read(evidence.seen[member.name])
        if not np.isfinite(shares).all():
            return Failure(
                item=evidence.item,
                stage="judge",
                code="non_finite_score",
                message=f"{member.name} gave no finite score for this picture",
                media=evidence.media,
                last=evidence.last,
            )
        total += member.weight * shares
        by_model[member.name] = _model_score(member, shares, evidence, criteria)
    summed, total = total, total / total.sum()  # weights such as thirds sum to 1 only nearly
    values = total.tolist()
    top, unsafe = _top(values, criteria), _unsafe(total, criteria)
    return FrameScore(
        number=evidence.number,
        time_s=evidence.time_s,
        category=criteria.names[top],
        confidence=values[top],
        unsafe_score=unsafe,
        probabilities=dict(zip(criteria.names, values, strict=True)),
        agreement=_agreement(by_model, judges, criteria.names[top]),
        by_model=by_model,
        stand_in=evidence.stand_in,
        skipped=evidence.skipped,
        bounds=_bounds(summed, unsafe, judges, criteria) if evidence.skipped else None,
    )


def _asked(evidence: Evidence, criteria: Criteria) -> Sequence[WeightedReader]:
    """Return who judges: all members but those skipped, or the stand-in. Nobody is left out unsaid."""
    if evidence.stand_in:
        return [member for member in criteria.judges if member.name in evidence.seen]
    return [member for member in criteria.judges if member.name not in evidence.skipped]


def _bounds(
    summed: Probabilities, unsafe: float, asked: Sequence[WeightedReader], criteria: Criteria
) -> tuple[float, float]:
    """Return the lowest and highest unsafe score that the whole ensemble could have come to."""
    weight = sum(member.weight for member in asked)
    left = max(sum(member.weight for member in criteria.judges) - weight, 0.0)
    heard = PartialScores(shares=[summed[np.newaxis] / weight], weights=[weight], left=left)
    low, high = score_bounds(heard, criteria.unsafe)
    return min(float(low[0]), unsafe), max(float(high[0]), unsafe)  # where rounding says otherwise


def _model_score(
    member: WeightedReader, shares: Probabilities, evidence: Evidence, criteria: Criteria
) -> ModelScore:
    values = shares.tolist()
    top = _top(values, criteria)
    seen = evidence.seen[member.name]
    return ModelScore(
        category=criteria.names[top],
        confidence=values[top],
        probabilities=dict(zip(criteria.names, values, strict=True)),
        forward_ms=evidence.forward_ms[member.name],
        detections=seen.found if isinstance(seen, Detections) else None,
    )


def _top(shares: Sequence[float], criteria: Criteria) -> int:
    """Return the index of the highest share; of equal ones the most severe."""
    return max(criteria.severity, key=shares.__getitem__)


def _unsafe(total: Probabilities, criteria: Criteria) -> float:
    """Return the share of the UNSAFE categories, 0..1: exactly 1 where nothing speaks for a SAFE one."""
    mask = criteria.unsafe
    unsafe, safe = float(total[mask].sum()), float(total[~mask].sum())
    return unsafe / (unsafe + safe)


def _agreement(by_model: dict[str, ModelScore], judges: Sequence[WeightedReader], category: str) -> float:
    agreeing = sum(member.weight for member in judges if by_model[member.name].category == category)
    return min(1.0, agreeing / sum(member.weight for member in judges))


def _conclude(
    item: Item, media: Media | None, frames: Sequence[FrameScore], broken: Failure | None, criteria: Criteria
) -> Result:
    """Return the verdict. Where a frame was lost: NSFW if the rest says so, else the failure, never Safe."""
    if frames and media is not None:
        known = media if broken is None else replace(media, truncated=True)
        verdict = _verdict(item, known, frames, criteria)
        if broken is None or verdict.decision == "NSFW":
            return verdict
    if broken is None:
        raise AssertionError("an item without a frame has failed")
    return replace(broken, media=broken.media or media, last=True)


def _verdict(item: Item, media: Media, frames: Sequence[FrameScore], criteria: Criteria) -> Verdict:
    moves = media.kind != "image"
    segments = find_segments(frames, media.duration_s, criteria.threshold) if moves else ()
    counted = persistent_frames(frames, media.duration_s, criteria.threshold, criteria.policy.persistence_s)
    deciding = max(counted, key=lambda frame: frame.unsafe_score)
    short_hit = len(counted) < len(frames)
    return Verdict(
        item=item,
        media=media,
        decision=_decide(deciding, criteria),
        needs_review=short_hit
        or any(frame.stand_in for frame in frames)
        or _needs_review(deciding, media, criteria),
        degraded=criteria.degraded or any(frame.stand_in for frame in frames),
        deciding=deciding,
        frames=tuple(frames),
        segments=segments,
        unseen_categories=tuple(criteria.unseen),
        total_ms=(time.perf_counter() - media.started) * 1000,
    )


def _decide(deciding: FrameScore, criteria: Criteria) -> Decision | None:
    if not criteria.policy.unsafe:
        return None
    return "NSFW" if deciding.unsafe_score >= criteria.threshold else "Safe"


def _needs_review(deciding: FrameScore, media: Media, criteria: Criteria) -> bool:
    policy = criteria.policy
    band = policy.review_band
    return (
        media.truncated
        or bool(criteria.unseen)
        or deciding.agreement < policy.agreement_threshold
        or (band is not None and band[0] <= deciding.unsafe_score <= band[1])
    )
