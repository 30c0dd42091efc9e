"""What decides, what needs a person, and what is never called Safe: by table."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.frame_scores import score_frame
from clipmod_cli.judge.judging import judge
from clipmod_cli.types import Evidence, Failure, FrameScore, LabelScores, Verdict
from tests.evidence import (
    NAMES,
    animation,
    criteria_of,
    evidence,
    item_of,
    lost,
    media_of,
    one,
    policy_of,
    saw,
    saw_unsafe,
    verdict_of,
)


def score_of(*seen: LabelScores, criteria: Criteria) -> FrameScore:
    score = score_frame(evidence(*seen), criteria)
    assert isinstance(score, FrameScore)
    return score


def test_the_ensembles_scores_by_hand() -> None:
    criteria = criteria_of(weights=(0.5, 0.3, 0.2))
    score = score_of(
        saw(0.1, 0.2, 0.6, 0.1), saw(0.5, 0.1, 0.2, 0.2), saw(0.0, 0.0, 0.0, 1.0), criteria=criteria
    )
    # 0.5 x 0.1 + 0.3 x 0.5 + 0.2 x 0.0 and so on, by column
    expected = dict(zip(NAMES, (0.20, 0.13, 0.36, 0.31), strict=True))
    assert score.probabilities == pytest.approx(expected)
    assert score.category == "nude"
    assert score.confidence == pytest.approx(0.36)
    assert score.unsafe_score == pytest.approx(0.67)
    assert score.agreement == pytest.approx(0.5), "only the first calls it nude"
    assert [model.category for model in score.by_model.values()] == ["nude", "neutral", "gore"]
    assert [model.confidence for model in score.by_model.values()] == pytest.approx([0.6, 0.5, 1.0])
    assert [model.forward_ms for model in score.by_model.values()] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("shares", "top"),
    [
        ((0.25, 0.25, 0.25, 0.25), "gore"),  # of UNSAFE ones the last listed
        ((0.5, 0.0, 0.5, 0.0), "nude"),
        ((0.5, 0.5, 0.0, 0.0), "swimwear"),
        ((0.4, 0.3, 0.3, 0.0), "neutral"),
    ],
)
def test_ties_go_to_the_severe(shares: tuple[float, ...], top: str) -> None:
    score = score_of(saw(*shares), criteria=criteria_of())
    assert score.category == score.by_model["m0"].category == top


def test_ties_go_to_the_unsafe_wherever_it_is_listed() -> None:
    policy = policy_of({"gore": "UNSAFE", "cat": "SAFE"})
    score = score_of(saw(0.5, 0.5, names=("gore", "cat")), criteria=criteria_of(policy))
    assert score.category == "gore"


@pytest.mark.parametrize(
    ("unsafe", "threshold", "decision"),
    [
        (0.5, 0.5, "NSFW"), (0.499, 0.5, "Safe"), (0.501, 0.5, "NSFW"),
        (0.0, 0.0, "NSFW"), (1.0, 1.0, "NSFW"), (0.999, 1.0, "Safe"), (0.0, 1.0, "Safe"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("weights", [(1.0,), (0.4, 0.35, 0.25), (1 / 3,) * 3, (0.7, 0.2, 0.1)])
def test_nsfw_from_the_threshold_on(
    unsafe: float, threshold: float, decision: str, weights: tuple[float, ...]
) -> None:
    """For any weights alike: what all models say, the ensemble says, to the last bit."""
    criteria = criteria_of(threshold=threshold, weights=weights)
    verdict = verdict_of([evidence(*[saw_unsafe(unsafe)] * len(weights))], criteria)
    assert verdict.decision == decision
    assert verdict.deciding.agreement == 1.0
    assert verdict.deciding.confidence == max(verdict.deciding.probabilities.values()) <= 1.0
    if unsafe in {0.0, 1.0}:
        assert verdict.deciding.confidence == 1.0


def test_a_safe_top_category_can_be_nsfw() -> None:
    """The UNSAFE ones together count, not the single most probable one."""
    verdict = verdict_of([evidence(saw(0.4, 0.0, 0.3, 0.3))])
    assert (verdict.decision, verdict.deciding.category) == ("NSFW", "neutral")


def test_without_unsafe_categories_nothing_is_decided() -> None:
    policy = policy_of({"cat": "SAFE", "dog": "SAFE"})
    verdict = verdict_of([evidence(saw(0.2, 0.8, names=("cat", "dog")))], criteria_of(policy, threshold=0.0))
    assert (verdict.decision, verdict.deciding.category, verdict.needs_review) == (None, "dog", False)


@pytest.mark.parametrize(
    ("first", "second", "weights", "review"),
    [
        (0.1, 0.1, (0.5, 0.5), False),
        (0.9, 0.1, (0.75, 0.25), False),  # three quarters agree
        (0.9, 0.1, (0.7, 0.3), False),  # exactly as much as is asked for
        (0.9, 0.1, (0.65, 0.35), True),
        (0.6, 0.1, (0.5, 0.5), True),
    ],
)
def test_models_that_disagree_need_review(
    first: float, second: float, weights: tuple[float, float], review: bool
) -> None:
    verdict = verdict_of(
        [evidence(saw_unsafe(first), saw_unsafe(second))],
        criteria_of(policy_of(agreement_threshold=0.7), weights=weights),
    )
    assert verdict.needs_review == review


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.85])
@pytest.mark.parametrize(
    ("distance", "review"),
    [(-0.11, False), (-0.1, True), (0.0, True), (0.1, True), (0.100001, False), (0.1000001, True)],
)
def test_a_score_near_the_threshold_in_force_needs_review(
    distance: float, review: bool, threshold: float
) -> None:
    criteria = criteria_of(policy_of(review_margin=0.1), threshold=threshold)
    verdict = verdict_of([evidence(saw_unsafe(threshold + distance))], criteria)
    assert verdict.review_reasons == (("review_margin",) if review else ())


def test_a_score_is_compared_as_it_is_written() -> None:
    verdict = verdict_of([evidence(saw_unsafe(0.4999996))], criteria_of(policy_of(review_margin=0.0)))
    assert (verdict.deciding.unsafe_score, verdict.decision) == (0.5, "NSFW")


def test_a_truncated_picture_needs_review() -> None:
    for truncated in (False, True):
        verdict = verdict_of([evidence(saw_unsafe(0.0), media=media_of(truncated=truncated))])
        assert (verdict.decision, verdict.needs_review) == ("Safe", truncated)


def test_unseen_categories_need_review_and_less_than_the_ensemble_is_told() -> None:
    verdict = verdict_of([evidence(saw_unsafe(0.0))], criteria_of(unseen=("gore",), degraded=True))
    assert (verdict.needs_review, verdict.unseen_categories, verdict.degraded) == (True, ("gore",), True)
    verdict = verdict_of([evidence(saw_unsafe(0.0))])
    assert (verdict.needs_review, verdict.unseen_categories, verdict.degraded) == (False, (), False)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_a_score_that_is_no_number_is_a_failure(broken: float, which: int) -> None:
    seen = [saw_unsafe(0.0), saw_unsafe(0.0)]
    seen[which] = saw(0.5, 0.5, broken, 0.0)
    failure = one([evidence(*seen)], criteria_of(weights=(0.5, 0.5)))
    assert isinstance(failure, Failure)
    assert (failure.code, failure.stage) == ("non_finite_score", "judge")
    assert f"m{which}" in failure.message


def test_nothing_seen_at_all_is_a_failure() -> None:
    """A classifier none of whose mapped labels has a score says nothing: not even "safe"."""
    failure = one([evidence(saw(0, 0, 0, 0))], criteria_of())
    assert isinstance(failure, Failure)
    assert failure.code == "non_finite_score"


def test_nothing_is_taken_over_from_the_item_before() -> None:
    stream = [
        *animation([0.9, None], item=item_of(0)),
        lost(item_of(1)),
        evidence(saw_unsafe(0), item=item_of(2)),
    ]
    first, second, third = judge(stream, criteria_of())
    assert isinstance(first, Verdict)
    assert isinstance(second, Failure)
    assert second.media is None
    assert isinstance(third, Verdict)
    assert (third.decision, third.media.kind, len(third.frames)) == ("Safe", "image", 1)


def test_an_item_that_was_not_finished_has_no_result() -> None:
    """The line was stopped amidst it: resuming judges it from its beginning."""
    stream = [evidence(saw_unsafe(0.9), item=item_of(0)), *animation([0.9, 0.9], item=item_of(1))[:1]]
    assert [result.item.index for result in judge(stream, criteria_of())] == [0]


def test_time_is_counted_from_the_items_own_beginning() -> None:
    early = verdict_of([evidence(saw_unsafe(0), media=media_of(started=-1000.0))])
    late = verdict_of([evidence(saw_unsafe(0), media=media_of(started=0.0))])
    assert early.total_ms - late.total_ms == pytest.approx(1e6, abs=1e5)


def test_results_come_as_soon_as_an_item_ends() -> None:
    pulled: list[int] = []

    def stream() -> Iterator[Evidence]:
        for index in range(3):
            pulled.append(index)
            yield evidence(saw_unsafe(0.1), item=item_of(index))

    results = judge(stream(), criteria_of())
    assert next(results).item.index == 0
    assert pulled == [0]
