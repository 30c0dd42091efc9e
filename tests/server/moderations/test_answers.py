"""Laws of moderations: what is flagged has a category, and no UNSAFE category is hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.policy.values import OPENAI_CATEGORIES, Policy
from clipmod_cli.records import Record
from clipmod_cli.server.apis.moderations.answers import moderation_of, names_of
from tests.test_policy_laws import policies

THRESHOLD = 0.5


def record_of(policy: Policy, shares: dict[str, float], **fields: Any) -> Record:
    """Return what moderations read of a record; the decision is that of the sum or the highest score."""
    unsafe = [shares[name] for name in policy.unsafe]
    score = max(unsafe) if policy.is_independent else sum(unsafe)
    known: dict[str, Any] = {
        "category_ensemble_probabilities": shares,
        "category_scores": {name: shares[name] for name in policy.unsafe},
        "final_decision": "NSFW" if score >= THRESHOLD else "Safe",
        "needs_review": False,
        "threshold": THRESHOLD,
    }
    return Record.model_construct(**{**known, **fields})


@st.composite
def judged(draw: st.DrawFn) -> tuple[Policy, Record]:
    policy = draw(policies().filter(lambda one: one.unsafe))
    values = [draw(st.floats(0, 1)) for _ in policy.categories]
    whole = 1.0 if policy.is_independent else sum(values) or 1.0
    shares = {c.name: value / whole for c, value in zip(policy.categories, values, strict=True)}
    matched = draw(st.lists(st.sampled_from(policy.unsafe), unique=True))
    decision = {"final_decision": "NSFW"} if matched else {}
    return policy, record_of(
        policy, shares, matched_categories=matched or None, needs_review=draw(st.booleans()), **decision
    )


@given(judged(), st.booleans())
def test_what_is_flagged_has_a_category_and_nothing_else_has(
    one: tuple[Policy, Record], reviews_flag: bool
) -> None:
    policy, record = one
    found = moderation_of(record, policy, reviews_flag=reviews_flag)
    assert found.flagged == (record.final_decision == "NSFW" or bool(record.needs_review and reviews_flag))
    assert bool(found.true) == found.flagged
    names = names_of(policy)
    for category in record.matched_categories or ():
        assert {name for name, own in names.items() if category in own} <= found.true


@given(judged())
def test_every_unsafe_category_is_told_with_its_score(one: tuple[Policy, Record]) -> None:
    policy, record = one
    names, found = names_of(policy), moderation_of(record, policy, reviews_flag=True)
    assert {category for own in names.values() for category in own} == set(policy.unsafe)
    assert set(found.scores) == {name for name, own in names.items() if own}
    for name, score in found.scores.items():
        own = [(record.category_scores or {})[category] for category in names[name]]
        assert max(own) - 1e-6 <= score <= 1.0


def test_shares_of_one_name_are_added_and_independent_scores_are_not() -> None:
    policy = load_policy("nsfw")
    shares = {"neutral": 0.4, "drawing": 0.0, "suggestive": 0.0, "nudity": 0.3, "explicit": 0.3}
    found = moderation_of(record_of(policy, shares), policy, reviews_flag=True)
    assert found.scores == {"sexual": 0.6}
    assert found.true == {"sexual"}
    alone = replace(policy, scoring="independent")
    found = moderation_of(record_of(alone, shares), alone, reviews_flag=True)
    assert (found.flagged, found.scores) == (False, {"sexual": 0.3})


@pytest.mark.parametrize(
    ("highest", "true"), [("weapons", {"weapons"}), ("gore_violence", {"violence", "violence/graphic"})]
)
def test_what_only_the_sum_flags_has_the_category_with_the_highest_score(
    highest: str, true: set[str]
) -> None:
    policy = load_policy("general")
    shares = {c.name: 0.0 for c in policy.categories} | dict.fromkeys(policy.unsafe, 0.12)
    shares |= {highest: 0.13, "neutral": 0.27, "nudity": 0.06, "sexual_activity": 0.06}
    found = moderation_of(record_of(policy, shares), policy, reviews_flag=True)
    assert found.flagged
    assert found.true == true


def test_names_are_openais_first_and_then_the_policys_own() -> None:
    names = names_of(load_policy("general"))
    assert list(names)[: len(OPENAI_CATEGORIES)] == list(OPENAI_CATEGORIES)
    assert names["sexual"] == ["nudity", "sexual_activity"]
    assert list(names)[len(OPENAI_CATEGORIES) :] == ["drugs", "weapons"]
    assert names["self-harm"] == []
