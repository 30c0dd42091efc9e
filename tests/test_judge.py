"""What decides, what needs a person, and what is never called Safe: by table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest

from clipmod_cli.criteria import Criteria
from clipmod_cli.judge import judge, score_frame
from clipmod_cli.types import Evidence, Failure, FrameScore, LabelScores, Result, Verdict
from tests.evidence import (
    NAMES,
    animation,
    criteria_of,
    evidence,
    item_of,
    lost,
    media_of,
    policy_of,
    saw,
    saw_unsafe,
)


def one(stream: Sequence[Evidence | Failure], criteria: Criteria) -> Result:
    """Return the only result."""
    (result,) = judge(stream, criteria)
    return result


def verdict_of(stream: Sequence[Evidence | Failure], criteria: Criteria | None = None) -> Verdict:
    result = one(stream, criteria or criteria_of())
    assert isinstance(result, Verdict)
    return result


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
@pytest.mark.parametrize("weights", [(1.0,), (0.4, 0.35, 0.25), (1 / 3, 1 / 3, 1 / 3), (0.1, 0.2, 0.7)])
def test_nsfw_from_the_threshold_on(
    unsafe: float, threshold: float, decision: str, weights: tuple[float, ...]
) -> None:
    """For any weights alike: what all models say, the ensemble says, to the last bit."""
    criteria = criteria_of(threshold=threshold, weights=weights)
    verdict = verdict_of([evidence(*[saw_unsafe(unsafe)] * len(weights))], criteria)
    assert verdict.decision == decision
    assert verdict.deciding.agreement == 1.0


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


@pytest.mark.parametrize(
    ("score", "review"), [(0.39, False), (0.4, True), (0.5, True), (0.6, True), (0.61, False)]
)
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_a_score_inside_the_band_needs_review_whatever_the_threshold(
    score: float, review: bool, threshold: float
) -> None:
    criteria = criteria_of(policy_of(review_band=(0.4, 0.6)), threshold=threshold)
    assert verdict_of([evidence(saw_unsafe(score))], criteria).needs_review == review


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


def test_an_animation_is_judged_by_its_worst_frame_and_no_mean() -> None:
    verdict = verdict_of(animation([0.0, 0.1, 0.95, 0.0, 0.0, 0.0]))
    assert (verdict.decision, verdict.deciding.number, verdict.deciding.time_s) == ("NSFW", 2, 2.0)
    assert [frame.number for frame in verdict.frames] == list(range(6))
    (segment,) = verdict.segments
    assert (segment.start_s, segment.end_s, segment.peak_time_s, segment.category) == (2.0, 3.0, 2.0, "nude")
    assert not verdict.needs_review


def test_an_animation_of_one_frame_has_its_segment_and_a_still_has_none() -> None:
    (segment,) = verdict_of(animation([0.9], duration_s=4.0)).segments
    assert (segment.start_s, segment.end_s) == (0.0, 4.0)
    assert verdict_of([evidence(saw_unsafe(0.9))]).segments == ()


@pytest.mark.parametrize(
    ("scores", "decision", "review"),
    [
        ([0.0, 0.9, 0.9, 0.0], "NSFW", False),  # two seconds, as is asked for
        ([0.0, 0.9, 0.0, 0.9], "Safe", True),  # two hits of one second each
        ([0.0, 0.9, 0.0, 0.0], "Safe", True),
        ([0.0, 0.1, 0.0, 0.0], "Safe", False),
        ([0.9, 0.9, 0.0, 0.95], "NSFW", True),  # the long hit decides; the short one is worth a look
    ],
)
def test_short_hits_need_review_and_do_not_decide(scores: list[float], decision: str, review: bool) -> None:
    criteria = criteria_of(policy_of(persistence_s=2.0))
    verdict = verdict_of(animation(scores), criteria)
    assert (verdict.decision, verdict.needs_review) == (decision, review)
    assert len(verdict.frames) == len(scores), "all of them are told"


def test_a_hit_as_long_as_a_short_animation_decides() -> None:
    verdict = verdict_of(animation([0.9, 0.9]), criteria_of(policy_of(persistence_s=60.0)))
    assert verdict.decision == "NSFW"


@pytest.mark.parametrize("known", [True, False], ids=["media", "no-media"])
@pytest.mark.parametrize("scores", [[None, 0.9], [0.9, None], [0.1, None, 0.9, None], [None, 0.9, None]])
def test_frames_that_say_nsfw_do_so_even_where_others_were_lost(
    scores: list[float | None], known: bool
) -> None:
    verdict = verdict_of(animation(scores, failures_know_media=known))
    assert verdict.decision == "NSFW"
    assert verdict.media.truncated
    assert verdict.needs_review
    assert len(verdict.frames) == sum(score is not None for score in scores)


@pytest.mark.parametrize("known", [True, False], ids=["media", "no-media"])
@pytest.mark.parametrize("scores", [[None, 0.1], [0.1, None], [0.1, None, 0.4, 0.4], [None], [None, None]])
def test_a_lost_frame_never_yields_safe(scores: list[float | None], known: bool) -> None:
    failure = one(animation(scores, failures_know_media=known), criteria_of())
    assert isinstance(failure, Failure)
    assert (failure.code, failure.last) == ("decode_error", True)
    if known or any(score is not None for score in scores):
        assert failure.media is not None
        assert failure.media.kind == "animation"


def test_a_short_hit_beside_a_lost_frame_is_an_error() -> None:
    criteria = criteria_of(policy_of(persistence_s=2.0))
    assert isinstance(one(animation([0.9, 0.0, 0.0, None]), criteria), Failure)
    assert isinstance(one(animation([0.9, 0.9, 0.0, None]), criteria), Verdict)


def test_a_frame_without_a_finite_score_counts_as_lost() -> None:
    item, media = item_of(), media_of(kind="animation", duration_s=3.0)

    def frame(score: float, *, last: bool) -> Evidence:
        return evidence(saw(1 - score, 0.0, score, 0.0), item=item, media=media, last=last)

    verdict = verdict_of([frame(0.1, last=False), frame(math.nan, last=False), frame(0.9, last=True)])
    assert (verdict.decision, verdict.needs_review, len(verdict.frames)) == ("NSFW", True, 2)
    failure = one([frame(0.1, last=False), frame(math.nan, last=False), frame(0.2, last=True)], criteria_of())
    assert isinstance(failure, Failure)
    assert (failure.code, failure.last) == ("non_finite_score", True)


def test_the_first_of_several_failures_is_told() -> None:
    item = item_of()
    stream = [lost(item, code="decode_timeout", last=False), lost(item, code="video_error")]
    failure = one(stream, criteria_of())
    assert isinstance(failure, Failure)
    assert failure.code == "decode_timeout"


def test_what_of_a_policy_without_unsafe_categories_was_lost_is_an_error() -> None:
    policy = policy_of(dict.fromkeys(NAMES, "SAFE"))
    assert isinstance(one(animation([0.9, None]), criteria_of(policy)), Failure)


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
