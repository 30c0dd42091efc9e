"""Evidence of frames to their scores, of many at once or of one. No I/O and no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.certainty import PartialScores, score_bounds
from clipmod_cli.judge.criteria import Criteria, WeightedReader
from clipmod_cli.judge.policy.values import DIGITS
from clipmod_cli.judge.readers import Probabilities, has_own_scores, own_scores, unmapped_share
from clipmod_cli.judge.scoring import EnsembleScores, combine
from clipmod_cli.types import Detections, Evidence, Failure, FrameScore, ModelScore

STEPS: Final = 10**DIGITS


def score_frame(evidence: Evidence, criteria: Criteria) -> FrameScore | Failure:
    """Return the ensemble's scores for one frame, or a Failure if a score is not finite."""
    return score_frames([evidence], criteria)[0]


def score_frames(frames: Sequence[Evidence], criteria: Criteria) -> list[FrameScore | Failure]:
    """Return the result of `score_frame` for each, equal to the last bit; many at once cost less."""
    scored: list[FrameScore | Failure] = []
    for names, alike in groupby(frames, lambda frame: _members_run(frame, criteria)):
        judges = [one for one in (*criteria.judges, *criteria.screens) if one.name in names]
        scored += _score_alike(list(alike), judges, criteria)
    return scored


def _members_run(evidence: Evidence, criteria: Criteria) -> tuple[str, ...]:
    """Return the models that judge this frame: the members that were run, or the screen it exited after."""
    if evidence.stand_in:
        return tuple(member.name for member in criteria.judges if member.name in evidence.seen)
    asked = tuple(member.name for member in criteria.judges if member.name not in evidence.skipped)
    return asked or tuple(one.name for one in criteria.screens if one.name in evidence.seen)[-1:]


class _Row(NamedTuple):
    """The scores of one frame: those of each member and last the ensemble's, as in `EnsembleScores`."""

    shares: list[list[float]]
    tops: list[int]
    unsafe: float
    own: list[float]
    agreement: float
    matched: list[bool]


def _score_alike(
    frames: Sequence[Evidence], judges: Sequence[WeightedReader], criteria: Criteria
) -> list[FrameScore | Failure]:
    """Return the scores of frames that the same members judge."""
    # each is read alone: in a product of many rows the last bits of one depend on the others
    read = [[member.reader.read(frame.seen[member.name]) for member in judges] for frame in frames]
    shares = np.array(read).swapaxes(0, 1)
    weights = np.array([member.weight for member in judges])
    scores = combine(shares, weights, criteria, own=_own_scores(frames, judges, read))
    finite = np.isfinite(shares).all(axis=2)
    return [
        _frame_score(
            frame,
            judges,
            row,
            _bounds(frame, scores.shares[:-1, at], row.unsafe, weights, criteria),
            criteria,
        )
        if finite[:, at].all()
        else _failure(frame, judges[int(finite[:, at].argmin())])
        for at, (frame, row) in enumerate(zip(frames, _rows(scores), strict=True))
    ]


def _rows(scores: EnsembleScores) -> list[_Row]:
    by_member = (scores.shares.swapaxes(0, 1), scores.tops.T)
    together = (scores.unsafe, scores.own, scores.agreement, scores.matched)
    return list(map(_Row, *(values.tolist() for values in (*by_member, *together))))


def _own_scores(
    frames: Sequence[Evidence], judges: Sequence[WeightedReader], read: Sequence[Sequence[Probabilities]]
) -> Probabilities | None:
    """Return the `own_scores` of each member `(m, n, categories)`; None where these are the shares."""
    if not any(has_own_scores(member.reader) for member in judges):
        return None
    own = [
        [own_scores(m.reader, frame.seen[m.name], each) for m, each in zip(judges, shares, strict=True)]
        for frame, shares in zip(frames, read, strict=True)
    ]
    return np.array(own).swapaxes(0, 1)


def _failure(frame: Evidence, member: WeightedReader) -> Failure:
    return Failure(
        item=frame.item,
        stage="judge",
        code="non_finite_score",
        message=f"{member.name} gave no finite score for this picture",
        media=frame.media,
        last=frame.last,
    )


def _frame_score(
    frame: Evidence,
    judges: Sequence[WeightedReader],
    row: _Row,
    bounds: tuple[float, float] | None,
    criteria: Criteria,
) -> FrameScore:
    *values, together = row.shares
    *tops, top = row.tops
    by_model = {
        member.name: _model_score(member, theirs, first, frame, criteria)
        for member, theirs, first in zip(judges, values, tops, strict=True)
    }
    reached = zip(criteria.category_thresholds, row.matched, strict=True)
    matched = tuple(one.name for one, is_reached in reached if is_reached)
    return FrameScore(
        number=frame.number,
        time_s=frame.time_s,
        view=frame.view,
        category=criteria.names[top],
        confidence=together[top],
        unsafe_score=row.unsafe,
        probabilities=dict(zip(criteria.names, together, strict=True)),
        agreement=row.agreement,
        by_model=by_model,
        hit=bool(matched) or row.unsafe >= criteria.threshold,
        category_scores={criteria.names[i]: row.own[i] for i in criteria.unsafe_places},
        matched=matched,
        stand_in=frame.stand_in,
        skipped=frame.skipped,
        bounds=bounds,
    )


def _bounds(
    frame: Evidence, shares: NDArray[np.float64], unsafe: float, weights: Probabilities, criteria: Criteria
) -> tuple[float, float] | None:
    """Return the lowest and highest unsafe score that the whole ensemble could give; None if all were asked.

    Args:
        frame: the frame.
        shares: of the members that judged it, `(m, categories)`.
        unsafe: their unsafe score.
        weights: theirs.
        criteria: how it is judged.
    """
    if not frame.skipped:
        return None
    if len(frame.skipped) == len(criteria.judges):
        return 0.0, 1.0
    remaining = max(sum(member.weight for member in criteria.judges) - float(weights.sum()), 0.0)
    partial = PartialScores(shares=list(shares[:, np.newaxis]), weights=weights.tolist(), remaining=remaining)
    low, high = score_bounds(partial, criteria.unsafe, independent=criteria.policy.is_independent)
    # rounded outwards, as the score between is rounded
    return min(math.floor(low[0] * STEPS) / STEPS, unsafe), max(math.ceil(high[0] * STEPS) / STEPS, unsafe)


def _model_score(
    member: WeightedReader, values: Sequence[float], top: int, frame: Evidence, criteria: Criteria
) -> ModelScore:
    seen = frame.seen[member.name]
    return ModelScore(
        category=criteria.names[top],
        confidence=values[top],
        probabilities=dict(zip(criteria.names, values, strict=True)),
        forward_ms=frame.forward_ms[member.name],
        detections=seen.found if isinstance(seen, Detections) else None,
        unmapped_share=unmapped_share(member.reader, seen),
    )
