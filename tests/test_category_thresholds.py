"""Thresholds of single categories beside that of their sum: decisions, review, and what is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.judging import judge, judge_until_hit
from clipmod_cli.judge.policy.reading import parse_policy
from clipmod_cli.judge.policy.values import Safety, policy_notes
from clipmod_cli.types import Box, Evidence, Verdict, View
from tests.evidence import criteria_of, evidence, item_of, media_of, policy_of, saw, verdict_of

SAFETIES: Mapping[str, Safety] = {
    "neutral": "SAFE",
    "nudity": "UNSAFE",
    "weapons": "UNSAFE",
    "gore": "UNSAFE",
}
OWN: Mapping[str, tuple[float, float]] = {"nudity": (0.6, 0.05), "weapons": (0.3, 0.1)}
"""Weapons from 0.3, nudity from 0.6."""


def criteria(threshold: float = 0.9, **more: Any) -> Criteria:
    """Return criteria by which the sum of all decides from `threshold` on."""
    words = {name: more.pop(name) for name in ("weights", "undivided") if name in more}
    policy = policy_of(SAFETIES, own=more.pop("own", OWN), agreement_threshold=0.0, **more)
    return criteria_of(policy, threshold=threshold, **words)


def seen(nudity: float = 0.0, weapons: float = 0.0, gore: float = 0.0, **more: Any) -> Evidence:
    """Return what a model saw in a frame; the rest is neutral."""
    shares = (1 - nudity - weapons - gore, nudity, weapons, gore)
    return evidence(saw(*shares, names=tuple(SAFETIES)), **more)


@pytest.mark.parametrize(
    ("nudity", "weapons", "gore", "decision", "matched"),
    [
        (0.59, 0.0, 0.0, "Safe", []),
        (0.6, 0.0, 0.0, "NSFW", ["nudity"]),
        (0.0, 0.29, 0.0, "Safe", []),
        (0.0, 0.3, 0.0, "NSFW", ["weapons"]),
        (0.6, 0.3, 0.0, "NSFW", ["nudity", "weapons"]),  # two things are true at once
        (0.55, 0.25, 0.0, "Safe", []),  # 0.8 together
        (0.55, 0.25, 0.1, "NSFW", []),  # the sum alone
        (0.0, 0.0, 0.89, "Safe", []),  # a category without a threshold of its own
        (0.0, 0.0, 0.9, "NSFW", []),
    ],
)
def test_nsfw_is_a_category_at_its_own_threshold_or_the_sum(
    nudity: float, weapons: float, gore: float, decision: str, matched: Sequence[str]
) -> None:
    verdict = verdict_of([seen(nudity, weapons, gore)], criteria())
    assert verdict.decision == decision
    assert verdict.matched_categories == tuple(matched)
    assert verdict.category_scores == pytest.approx({"nudity": nudity, "weapons": weapons, "gore": gore})


@pytest.mark.parametrize(
    ("nudity", "weapons", "gore", "unsure"),
    [
        (0.54, 0.0, 0.0, False),
        (0.55, 0.0, 0.0, True),  # nudity's own margin is 0.05
        (0.65, 0.0, 0.0, True),
        (0.66, 0.0, 0.0, False),
        (0.0, 0.19, 0.0, False),
        (0.0, 0.2, 0.0, True),
        (0.0, 0.41, 0.0, False),
        (0.0, 0.0, 0.88, True),  # the sum's is 0.02
        (0.0, 0.0, 0.93, False),
    ],
)
def test_each_score_near_its_own_threshold_needs_review(
    nudity: float, weapons: float, gore: float, unsure: bool
) -> None:
    verdict = verdict_of([seen(nudity, weapons, gore)], criteria(review_margin=0.02))
    assert ("review_margin" in verdict.review_reasons) == unsure


def test_a_category_without_a_margin_has_the_policys() -> None:
    policy = policy_of(SAFETIES, own={"weapons": (0.3, 0.0)}, review_margin=0.07)
    weapons = replace(policy.categories[2], review_margin=None)
    own = replace(policy, categories=(*policy.categories[:2], weapons, policy.categories[3]))
    assert own.category_thresholds[0].band == (0.23, 0.37)
    assert policy.category_thresholds[0].band is None


def test_no_thresholds_of_categories_are_told_apart_from_none_reached() -> None:
    assert verdict_of([seen(0.8)], criteria(own={})).matched_categories is None
    assert verdict_of([seen(0.1)], criteria()).matched_categories == ()


def test_a_view_that_reaches_a_threshold_decides_over_one_with_a_higher_sum() -> None:
    """The record's scores and view are those of the reason."""
    corner = View(box=Box(8, 0, 8, 8))
    views = [seen(0.45, 0.0, 0.4, last=False), seen(weapons=0.35, view=corner)]
    verdict = verdict_of(views, criteria())
    assert (verdict.decision, verdict.matched_categories) == ("NSFW", ("weapons",))
    assert verdict.deciding.view == corner
    assert verdict.category_scores == pytest.approx({"nudity": 0.45, "weapons": 0.35, "gore": 0.4})


def test_a_near_miss_in_a_view_with_a_lower_sum_needs_review() -> None:
    views = [seen(0.45, last=False), seen(weapons=0.25)]
    verdict = verdict_of(views, criteria())
    assert (verdict.decision, verdict.review_reasons) == ("Safe", ("review_margin",))


def film(*frames: tuple[float, float], duration_s: float | None = None) -> list[Evidence]:
    media = media_of(kind="video", duration_s=float(len(frames)) if duration_s is None else duration_s)
    item = item_of()
    return [
        seen(
            nudity, weapons, item=item, media=media, number=i, time_s=float(i), last=i == len(frames) - 1
        )
        for i, (nudity, weapons) in enumerate(frames)
    ]  # fmt: skip


def test_a_film_is_a_hit_where_any_score_is_and_tells_all_that_it_shows() -> None:
    verdict = verdict_of(film((0.1, 0.0), (0.7, 0.0), (0.0, 0.4), (0.5, 0.1)), criteria())
    assert (verdict.decision, verdict.matched_categories) == ("NSFW", ("nudity", "weapons"))
    assert [(one.start_s, one.end_s) for one in verdict.segments] == [(1.0, 3.0)]
    assert verdict.deciding.number == 1


def test_a_short_hit_of_a_category_does_not_decide_but_needs_review() -> None:
    long = criteria(persistence_s=2.0)
    verdict = verdict_of(film((0.1, 0.0), (0.7, 0.0), (0.0, 0.1), (0.0, 0.0)), long)
    assert (verdict.decision, verdict.matched_categories) == ("Safe", ())
    assert "short_hit" in verdict.review_reasons
    lasting = verdict_of(film((0.1, 0.0), (0.7, 0.0), (0.0, 0.4), (0.0, 0.0)), long)
    assert (lasting.decision, lasting.matched_categories) == ("NSFW", ("nudity", "weapons"))


def test_a_hit_of_a_category_ends_the_search_for_one() -> None:
    hits: set[Any] = set()
    stream = film((0.1, 0.0), (0.0, 0.4), (0.7, 0.0), (0.0, 0.0))
    (verdict,) = judge_until_hit(stream, criteria(), hits)
    assert isinstance(verdict, Verdict)
    assert (verdict.decision, verdict.matched_categories, len(verdict.frames)) == ("NSFW", ("weapons",), 2)


def test_an_undivided_label_counts_in_full_for_each_of_its_categories() -> None:
    """A model that only says NSFW is never milder than one that says which kind."""
    both = {"nudity": (0.6, 0.0), "weapons": (0.6, 0.0)}
    said = seen(nudity=0.3, weapons=0.35)
    divided = verdict_of([said], criteria(own=both))
    assert (divided.decision, divided.matched_categories) == ("Safe", ())
    whole = verdict_of([said], criteria(own=both, undivided=[0]))
    assert (whole.decision, whole.matched_categories) == ("NSFW", ("nudity", "weapons"))
    assert whole.category_scores == pytest.approx({"nudity": 0.65, "weapons": 0.65, "gore": 0.65})
    assert whole.deciding.unsafe_score == pytest.approx(0.65), "it counts once for the sum"
    mixed = evidence(*(saw(0.35, 0.3, 0.35, 0.0, names=tuple(SAFETIES)) for _ in range(2)))
    half = verdict_of([mixed], criteria(own=both, undivided=[0], weights=(0.5, 0.5)))
    assert half.category_scores == pytest.approx({"nudity": 0.475, "weapons": 0.5, "gore": 0.325})


parts = st.integers(0, 20).map(lambda step: step / 20)
thresholds = st.dictionaries(st.sampled_from(["nudity", "weapons", "gore"]), st.tuples(parts, parts))
rows = st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(any)


def judged(row: Sequence[float], own: Mapping[str, tuple[float, float]], threshold: float) -> Verdict:
    return verdict_of([evidence(saw(*row, names=tuple(SAFETIES)))], criteria(threshold, own=own))


@given(row=rows, own=thresholds, threshold=parts, which=st.integers(1, 3), more=st.integers(1, 20))
def test_law_more_of_an_unsafe_category_in_place_of_a_safe_one_is_never_milder(
    row: list[int], own: Mapping[str, tuple[float, float]], threshold: float, which: int, more: int
) -> None:
    moved = min(more, row[0])
    worse = [row[0] - moved, *row[1:]]
    worse[which] += moved
    mild, severe = judged(row, own, threshold), judged(worse, own, threshold)
    assert not (mild.decision == "NSFW" and severe.decision == "Safe")
    assert set(mild.matched_categories or ()) <= set(severe.matched_categories or ())


@given(rows=st.lists(rows, min_size=1, max_size=5), own=thresholds, threshold=parts)
def test_law_a_threshold_of_a_category_only_adds_hits(
    rows: list[list[int]], own: Mapping[str, tuple[float, float]], threshold: float
) -> None:
    """And a decision always has its reason in the record: the sum, or a category."""
    for row in rows:
        with_own, without = judged(row, own, threshold), judged(row, {}, threshold)
        assert not (without.decision == "NSFW" and with_own.decision == "Safe")
        hit = with_own.deciding.unsafe_score >= threshold or bool(with_own.matched_categories)
        assert (with_own.decision == "NSFW") == hit
        for name in with_own.matched_categories or ():
            assert with_own.category_scores[name] >= own[name][0]


@given(rows=st.lists(rows, min_size=1, max_size=6), own=thresholds, threshold=parts)
def test_law_a_film_is_nsfw_exactly_where_one_of_its_frames_would_be(
    rows: list[list[int]], own: Mapping[str, tuple[float, float]], threshold: float
) -> None:
    shares = [[one / sum(row) for one in row] for row in rows]
    frames = film(*((row[1], row[2]) for row in shares))
    (verdict,) = judge(frames, criteria(threshold, own=own))
    stills = [judged((1 - row[1] - row[2], row[1], row[2], 0.0), own, threshold) for row in shares]
    assert isinstance(verdict, Verdict)
    assert verdict.decision == ("NSFW" if any(one.decision == "NSFW" for one in stills) else "Safe")
    if own:
        assert set(verdict.matched_categories or ()) == {
            n for s in stills for n in s.matched_categories or ()
        }


TEXT = """
name = "two"

[thresholds]
low = 1.0
medium = 1.0
high = 0.95
ultra = 0.5

[[categories]]
name = "neutral"
safety = "SAFE"
prompts = ["a street"]

[[categories]]
name = "nudity"
safety = "UNSAFE"
threshold = 0.6
prompts = ["a nude person"]

[[categories]]
name = "weapons"
safety = "UNSAFE"
threshold = 0.3
review_margin = 0.05
prompts = ["a rifle"]
"""


def test_a_file_has_thresholds_by_category_and_its_hash_has_them_too() -> None:
    policy = parse_policy(TEXT, "two.toml")
    assert [(one.name, one.threshold, one.band) for one in policy.category_thresholds] == [
        ("nudity", 0.6, (0.5, 0.7)),
        ("weapons", 0.3, (0.25, 0.35)),
    ]
    for changed in (TEXT.replace("= 0.3", "= 0.31"), TEXT.replace("= 0.05", "= 0.06")):
        assert parse_policy(changed, "two.toml").hash != policy.hash


def test_a_threshold_that_the_sum_always_reaches_first_is_noted() -> None:
    (note,) = [note for note in policy_notes(parse_policy(TEXT, "two.toml")) if "has no effect" in note]
    assert note == (
        "the threshold of nudity, 0.6, has no effect at the sensitivities ultra: the sum of the UNSAFE "
        "categories reaches its own threshold first"
    )
