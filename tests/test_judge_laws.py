"""Laws of judging: one result an item, a distribution always, never milder for more evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from hypothesis import assume, given
from hypothesis import strategies as st

from clipmod_cli.judge.judging import judge
from clipmod_cli.judge.policy.values import DIGITS
from clipmod_cli.results import Settled
from clipmod_cli.types import Evidence, Failure, Verdict
from tests.evidence import NAMES, SAFETIES, animation, criteria_of, evidence, item_of, lost, policy_of, saw

UNSAFE = tuple(name for name, safety in SAFETIES.items() if safety == "UNSAFE")
ROUNDING = 1e-9
STEP = 1e-6
"""To which scores are rounded before they are compared."""

shares = st.floats(0, 1, allow_subnormal=False)
scores = st.none() | shares
"""Of one frame: None is a lost one."""
rows = st.lists(shares, min_size=4, max_size=4).filter(lambda row: sum(row) > ROUNDING)
weights = st.lists(st.floats(0.01, 1), min_size=1, max_size=4).map(
    lambda given: tuple(one / sum(given) for one in given)
)


@given(data=st.data(), weights=weights)
def test_law_scores_are_a_distribution(data: st.DataObject, weights: tuple[float, ...]) -> None:
    seen = [saw(*data.draw(rows)) for _ in weights]
    (verdict,) = judge([evidence(*seen)], criteria_of(weights=weights))
    assert isinstance(verdict, Verdict)
    score = verdict.deciding
    for probabilities in (score.probabilities, *(model.probabilities for model in score.by_model.values())):
        assert tuple(probabilities) == NAMES
        assert all(0.0 <= share <= 1.0 for share in probabilities.values())
        assert math.isclose(sum(probabilities.values()), 1.0, abs_tol=ROUNDING)
    assert math.isclose(
        score.unsafe_score, sum(score.probabilities[name] for name in UNSAFE), abs_tol=10**-DIGITS
    )
    assert 0.0 <= score.unsafe_score <= 1.0
    assert 0.0 <= score.agreement <= 1.0
    assert score.confidence == max(score.probabilities.values()) == score.probabilities[score.category]


@given(
    data=st.data(),
    weights=weights,
    threshold=shares,
    which=st.sampled_from(UNSAFE),
    more=st.floats(1e-3, 1.0),
)
def test_law_more_unsafe_is_never_milder(
    data: st.DataObject, weights: tuple[float, ...], threshold: float, which: str, more: float
) -> None:
    before = [data.draw(rows) for _ in weights]
    raised = data.draw(st.integers(0, len(weights) - 1))
    after = [list(row) for row in before]
    after[raised][NAMES.index(which)] += more
    criteria = criteria_of(threshold=threshold, weights=weights)
    mild, severe = judge(
        [evidence(*(saw(*row) for row in before)), evidence(*(saw(*row) for row in after))], criteria
    )
    assert isinstance(mild, Verdict)
    assert isinstance(severe, Verdict)
    assert severe.deciding.unsafe_score >= mild.deciding.unsafe_score - ROUNDING
    assume(abs(mild.deciding.unsafe_score - threshold) > ROUNDING)
    assert not (mild.decision == "NSFW" and severe.decision == "Safe")


@given(
    frames=st.lists(shares, min_size=1, max_size=8),
    where=st.integers(0, 7),
    more=shares,
    threshold=shares,
    persistence_s=st.sampled_from([0.0, 1.0, 2.0, 3.5, 100.0]),
)
def test_law_a_worse_frame_is_never_milder(
    frames: list[float], where: int, more: float, threshold: float, persistence_s: float
) -> None:
    where %= len(frames)
    worse = [max(score, more) if i == where else score for i, score in enumerate(frames)]
    criteria = criteria_of(policy_of(persistence_s=persistence_s), threshold=threshold)
    mild, severe = judge([*animation(frames), *animation(worse)], criteria)
    assert isinstance(mild, Verdict)
    assert isinstance(severe, Verdict)
    assert not (mild.decision == "NSFW" and severe.decision == "Safe")


@given(threshold=st.tuples(shares, shares).map(sorted), frames=st.lists(shares, min_size=1, max_size=6))
def test_law_a_lower_threshold_is_never_milder(threshold: list[float], frames: list[float]) -> None:
    low, high = (next(judge(animation(frames), criteria_of(threshold=t))) for t in threshold)
    assert isinstance(low, Verdict)
    assert isinstance(high, Verdict)
    assert low.decision == "NSFW" or high.decision == "Safe"


def stream_of(items: Sequence[Sequence[float | None]]) -> list[Evidence | Settled]:
    """Return items by the scores of their frames; without any, the item failed as a whole."""
    stream: list[Evidence | Settled] = []
    for index, frames in enumerate(items):
        item = item_of(index)
        stream += animation(frames, item=item) if frames else [lost(item)]
    return stream


@given(items=st.lists(st.lists(scores, max_size=5), max_size=8), threshold=shares, known=st.booleans())
def test_law_every_item_has_exactly_one_result_in_order(
    items: list[list[float | None]], threshold: float, known: bool
) -> None:
    results = list(judge(stream_of(items), criteria_of(threshold=threshold)))
    assert [result.item.index for result in results] == list(range(len(items)))


@given(items=st.lists(st.lists(scores, max_size=5), max_size=6), threshold=shares)
def test_law_safe_means_that_every_frame_was_scored_and_is_below(
    items: list[list[float | None]], threshold: float
) -> None:
    results = judge(stream_of(items), criteria_of(threshold=threshold))
    for frames, result in zip(items, results, strict=True):
        scored = [score for score in frames if score is not None]
        hit = any(score >= threshold + STEP for score in scored)
        if hit:
            assert isinstance(result, Verdict)
            assert result.decision == "NSFW"
            assert result.needs_review or None not in frames
        if None in frames or not frames:
            assert isinstance(result, Failure) or result.decision == "NSFW"
        elif not any(score >= threshold - STEP for score in scored):
            assert isinstance(result, Verdict)
            assert result.decision == "Safe"


@given(frames=st.lists(shares, min_size=1, max_size=10), threshold=shares)
def test_law_without_persistence_the_worst_frame_decides(frames: list[float], threshold: float) -> None:
    (verdict,) = judge(animation(frames), criteria_of(threshold=threshold))
    assert isinstance(verdict, Verdict)
    assert verdict.deciding.unsafe_score == max(frame.unsafe_score for frame in verdict.frames)
    hits = [frame.unsafe_score >= threshold for frame in verdict.frames]
    assert (verdict.decision == "NSFW") == any(hits)
    assert len(verdict.segments) == sum(hit for hit, _ in groupby(hits))
