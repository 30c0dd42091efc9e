"""`[[tests]]` of a policy: what they expect, which verdicts meet it, and that they change no outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from clipmod_cli.judge.policy.expectations import PolicyTest, outcome_of, unmet
from clipmod_cli.judge.policy.reading import builtin_text, parse_policy
from clipmod_cli.types import Verdict
from tests.evidence import verdict_of
from tests.test_category_thresholds import criteria, seen

TESTS = """
[[tests]]
picture = "pictures/cat.jpg"
decision = "Safe"

[[tests]]
picture = "beach.jpg"
decision = ["review", "Safe"]
category = "suggestive"
score_at_least = 0.1
score_at_most = 1
"""


def verdict(nudity: float, weapons: float = 0.0, **more: Any) -> Verdict:
    return verdict_of([seen(nudity, weapons)], criteria(review_margin=0.02, **more))


@pytest.mark.parametrize(
    ("nudity", "outcome"), [(0.95, "NSFW"), (0.6, "NSFW"), (0.56, "review"), (0.1, "Safe")]
)
def test_the_outcome_is_review_only_where_nothing_was_hit(nudity: float, outcome: str) -> None:
    judged = verdict(nudity)
    assert outcome_of(judged) == outcome
    for one in ("NSFW", "review", "Safe"):
        faults = list(unmet(PolicyTest(picture="x", decision=(one,)), judged))
        assert faults == ([] if one == outcome else [f"must be {one}"])
    others = [one for one in ("NSFW", "review", "Safe") if one != outcome]
    assert list(unmet(PolicyTest(picture="x", decision=tuple(others)), judged)) == [  # type: ignore[arg-type]
        f"must be {others[0]} or {others[1]}"
    ]


@pytest.mark.parametrize(
    ("expected", "faults"),
    [
        ({"category": "nudity"}, []),
        ({"category": "neutral"}, ["the category must be neutral"]),
        ({"matched": ("weapons", "nudity")}, []),
        ({"matched": ("nudity",)}, ["must match nudity, matches nudity, weapons"]),
        ({"matched": ()}, ["must match none, matches nudity, weapons"]),
        ({"score_at_least": 0.95, "score_at_most": 0.95}, []),
        ({"score_at_least": 0.950001}, ["the score must be at least 0.950001, is 0.95"]),
        ({"score_at_most": 0.9}, ["the score must be at most 0.9, is 0.95"]),
        (
            {"category": "gore", "score_at_most": 0},
            ["the category must be gore", "the score must be at most 0"],
        ),
    ],
)
def test_each_expectation_that_is_not_met_is_told(expected: dict[str, Any], faults: Sequence[str]) -> None:
    told = list(unmet(PolicyTest(picture="x", **expected), verdict(0.6, 0.35)))
    assert len(told) == len(faults)
    assert all(one.startswith(fault) for one, fault in zip(told, faults, strict=True))


def test_a_policy_without_thresholds_of_categories_matches_none() -> None:
    assert list(unmet(PolicyTest(picture="x", matched=()), verdict(0.6, own={}))) == []


def test_tests_are_read_and_leave_the_hash() -> None:
    plain = builtin_text("nsfw")
    policy = parse_policy(plain + TESTS, "mine.toml")
    assert policy.hash == parse_policy(plain, "nsfw.toml").hash
    first, second = policy.tests
    assert first == PolicyTest(picture="pictures/cat.jpg", decision=("Safe",))
    assert second == PolicyTest(
        picture="beach.jpg",
        decision=("review", "Safe"),
        category="suggestive",
        score_at_least=0.1,
        score_at_most=1,
    )
