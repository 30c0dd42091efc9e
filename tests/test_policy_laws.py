"""Laws of policies: written is read, a stray key is refused, the hash tells what matters."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import PolicyError
from clipmod_cli.judge.policy.reading import parse_policy, policy_from_classes
from clipmod_cli.judge.policy.values import OPENAI_CATEGORIES, Category, Policy, Safety, Scoring


def to_toml(policy: Policy) -> str:
    """Return a file that says everything a policy holds."""
    word = partial(json.dumps, ensure_ascii=False)
    head = [
        f"name = {word(policy.name)}",
        f"description = {word(policy.description)}",
        f"templates = {word(list(policy.templates))}",
        f'scoring = "{policy.scoring}"',
        f"agreement_threshold = {policy.agreement_threshold}",
        f"review_margin = {policy.review_margin}",
        f"min_coverage = {policy.min_coverage}",
        "[thresholds]",
        *(f"{name} = {value}" for name, value in policy.thresholds.items()),
        "[video]",
        f"persistence_s = {policy.persistence_s}",
        f"max_gap_s = {policy.max_gap_s}",
    ]
    for c in policy.categories:
        head += [
            "[[categories]]",
            f"name = {word(c.name)}",
            f"label = {word(c.label)}",
            f'safety = "{c.safety}"',
            f"description = {word(c.description)}",
            f"otherwise = {word(c.otherwise)}",
            f"prompts = {word(list(c.prompts))}" if c.prompts else "",
            f"negatives = {word(list(c.negatives))}" if c.negatives else "",
            f"openai = {word(list(c.openai))}" if c.openai else "",
            "[categories.labels]" if c.labels else "",
            *(f"{word(spec)} = {word(list(labels))}" for spec, labels in c.labels.items()),
        ]
    return "\n".join(head)


shares = st.floats(0, 1)
names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=8
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    count = draw(st.integers(2, 5))
    told = draw(st.lists(names, min_size=count, max_size=count, unique=True))
    spare = iter(range(1000))
    otherwise = draw(st.integers(0, count))  # count: none
    categories = []
    safeties: list[Safety] = [
        "SAFE" if index == otherwise else draw(st.sampled_from(["SAFE", "UNSAFE"])) for index in range(count)
    ]
    scoring: Scoring = "independent" if len(set(safeties)) == 2 and draw(st.booleans()) else "softmax"
    for index, name in enumerate(told):
        prompts = tuple(f"prompt {next(spare)}" for _ in range(draw(st.integers(1, 3))))
        labels = {f"hf:a/{n}": (f"label {next(spare)}",) for n in range(draw(st.integers(0, 2)))}
        categories.append(
            Category(
                name=name,
                safety=safeties[index],
                label=draw(names),
                description=draw(names),
                otherwise=index == otherwise,
                prompts=prompts,
                negatives=tuple(f"negative {n}" for n in range(draw(st.integers(0, 2))))
                if scoring == "independent" and safeties[index] == "UNSAFE"
                else (),
                labels=labels,
                openai=tuple(draw(st.lists(st.sampled_from(OPENAI_CATEGORIES), max_size=2)))
                if safeties[index] == "UNSAFE"
                else (),
            )
        )
    falling = sorted(draw(st.lists(shares, min_size=4, max_size=4)), reverse=True)
    return Policy(
        name=draw(names),
        description=draw(names),
        templates=draw(st.sampled_from([("{}",), ("a {}", "no {}")])),
        scoring=scoring,
        agreement_threshold=draw(shares),
        review_margin=draw(shares),
        min_coverage=draw(shares),
        thresholds=dict(zip(("low", "medium", "high", "ultra"), falling, strict=True)),
        persistence_s=draw(st.floats(0, 60)),
        max_gap_s=draw(st.floats(1, 60)),
        categories=tuple(categories),
    )


@given(policies())
def test_what_is_written_is_what_is_read(policy: Policy) -> None:
    again = parse_policy(to_toml(policy), "x.toml")
    assert again == policy
    assert again.hash == policy.hash


@given(policies(), st.data())
def test_one_unknown_key_anywhere_is_refused_on_its_line(policy: Policy, data: st.DataObject) -> None:
    lines = to_toml(policy).splitlines()
    at = data.draw(st.integers(0, len(lines)))
    key = data.draw(st.from_regex(r"[a-z]{1,3}_[0-9]{4}", fullmatch=True))
    mutated = "\n".join([*lines[:at], f"{key} = 1", *lines[at:]])
    with pytest.raises(PolicyError) as caught:
        parse_policy(mutated, "x.toml")
    # Inside a label map the same line is a model that is none, holding no list.
    assert {line.split(" ")[0] for line in str(caught.value).splitlines()} == {f"x.toml:{at + 1}:"}
    assert key in str(caught.value)


@given(policies())
def test_the_hash_ignores_what_no_outcome_depends_on(policy: Policy) -> None:
    first, *others = policy.categories
    renamed = replace(
        first,
        label="another label",
        description="other words",
        prompts=tuple(reversed(first.prompts)),
        labels=dict(reversed(list(first.labels.items()))),
        openai=() if first.openai else ("sexual",),
    )
    changed = replace(policy, name="other", description="x", categories=(renamed, *others))
    commented = "# a comment\n" + to_toml(policy).replace("\n[video]", "  # why\n\n[video]")
    assert changed.hash == policy.hash
    assert parse_policy(commented, "x.toml").hash == policy.hash


CHANGES: dict[str, Any] = {
    "agreement_threshold": 0.123,
    "review_margin": 0.123,
    "min_coverage": 0.123,
    "thresholds": {"low": 0.9, "medium": 0.8, "high": 0.7, "ultra": 0.123},
    "persistence_s": 61.0,
    "max_gap_s": 61.0,
    "templates": ("one more {}",),
}
CATEGORY_CHANGES: dict[str, Any] = {
    "name": "another name",
    "prompts": ("another prompt",),
    "labels": {"hf:b/c": ("x",)},
}


@given(policies(), st.sampled_from(sorted(CHANGES)))
def test_the_hash_tells_another_question(policy: Policy, field: str) -> None:
    changes: dict[str, Any] = {field: CHANGES[field]}
    assert replace(policy, **changes).hash != policy.hash


@given(policies(), st.sampled_from(sorted(CATEGORY_CHANGES)))
def test_the_hash_tells_another_category(policy: Policy, field: str) -> None:
    first, *others = policy.categories
    changes: dict[str, Any] = {field: CATEGORY_CHANGES[field]}
    flipped = replace(first, safety="SAFE" if first.safety == "UNSAFE" else "UNSAFE")
    silent = replace(first, otherwise=not first.otherwise)
    opposed = replace(first, negatives=("one more", *first.negatives))
    others_of = [opposed] if policy.is_independent else []
    for changed in (replace(first, **changes), flipped, silent, *others_of):
        assert replace(policy, categories=(changed, *others)).hash != policy.hash
    assert replace(policy, categories=tuple(reversed(policy.categories))).hash != policy.hash


@given(policies())
def test_the_hash_tells_another_scoring(policy: Policy) -> None:
    other: Scoring = "softmax" if policy.is_independent else "independent"
    assert replace(policy, scoring=other).hash != policy.hash


def test_the_hash_of_independent_scoring_tells_prompts_from_templates() -> None:
    """The same texts are one vector as templates, and several as prompts: only a softmax takes one mean."""
    safe = Category(name="a", safety="SAFE", otherwise=True)
    whole = Policy(
        name="x", categories=(safe, Category(name="b", safety="UNSAFE", prompts=("big b", "small b")))
    )
    filled = replace(
        whole,
        templates=("big {}", "small {}"),
        categories=(safe, replace(whole.categories[1], prompts=("b",))),
    )
    assert whole.hash == filled.hash
    independent = [replace(each, scoring="independent") for each in (whole, filled)]
    assert independent[0].hash != independent[1].hash


def test_the_hash_is_eight_hex_digits_and_stands_still() -> None:
    policy = Policy(
        name="x",
        categories=(
            Category(name="a", safety="SAFE", prompts=("é",)),
            Category(name="b", safety="UNSAFE", prompts=("b",), labels={"nudenet": ("FACE_MALE",)}),
        ),
    )
    # Records of old runs carry it: if this fails, resuming them judges everything again.
    assert policy.hash == "848765f6"


@given(
    st.lists(names.filter(lambda word: "," not in word), min_size=2, max_size=6, unique_by=str.lower),
    st.data(),
)
def test_classes_hold_every_word_once(words: list[str], data: st.DataObject) -> None:
    marked = data.draw(st.lists(st.sampled_from(words), min_size=1, max_size=len(words) - 1, unique=True))
    policy = policy_from_classes(", ".join(words), ",".join(marked))
    assert [c.name for c in policy.categories] == words
    assert set(policy.unsafe) == set(marked)
    assert parse_policy(to_toml(policy), "x.toml") == policy
