"""Many frames, one verdict: the worst persistent evidence decides, and what was lost is never Safe."""

from __future__ import annotations

import math

import pytest

from clipmod_cli.judge.judging import judge_until_hit
from clipmod_cli.types import Evidence, Failure, Item, Verdict
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
        seen = saw(1 - score, 0.0, score, 0.0)
        return evidence(seen, item=item, media=media, last=last, number=2 if last else 0)

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


def test_a_hit_behind_the_end_always_counts_and_is_no_segment() -> None:
    item, media = item_of(), media_of(kind="animation", duration_s=3.0)
    times = [0.0, 1.0, 2.0, 4.0, 5.0]
    scores = [0.0, 0.0, 0.9, 0.0, 0.95]
    stream = [
        evidence(saw_unsafe(score), item=item, media=media, number=number, time_s=time_s, last=number == 4)
        for number, (time_s, score) in enumerate(zip(times, scores, strict=True))
    ]
    verdict = verdict_of(stream, criteria_of(policy_of(persistence_s=2.0)))
    assert (verdict.decision, verdict.deciding.number) == ("NSFW", 4)
    assert [segment.start_s for segment in verdict.segments] == [2.0]


def test_until_a_hit_nothing_after_it_counts() -> None:
    stream = [*animation([0.0, 0.9, 0.95, 0.0]), *animation([0.0, 0.1])]
    hits: set[Item] = set()
    first, second = judge_until_hit(stream, criteria_of(), hits)
    assert isinstance(first, Verdict)
    assert isinstance(second, Verdict)
    assert (first.decision, len(first.frames), second.decision) == ("NSFW", 2, "Safe")
    assert [(segment.start_s, segment.end_s) for segment in first.segments] == [(1.0, 1.0)]
    assert not hits, "the last frame was seen"


def test_until_a_hit_waits_for_one_that_lasts() -> None:
    criteria = criteria_of(policy_of(persistence_s=2.0))
    (verdict,) = judge_until_hit(animation([0.9, 0.0, 0.9, 0.9, 0.9, 0.9, 0.0]), criteria, set())
    assert isinstance(verdict, Verdict)
    assert (verdict.decision, len(verdict.frames)) == ("NSFW", 5)
    (short,) = judge_until_hit(animation([0.9, 0.0, 0.9, 0.0]), criteria, set())
    assert isinstance(short, Verdict)
    assert (short.decision, short.review_reasons) == ("Safe", ("short_hit",))
