"""The law of early exit: whatever those who were not asked would have said, the outcome is the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy.values import Safety
from clipmod_cli.types import FrameScore, Kind, LabelScores, Verdict
from tests.colour_models import frame_of
from tests.evidence import criteria_of, evidence, item_of, media_of, policy_of, saw, verdict_of

USUAL = (0.40, 0.35, 0.25)
EVERYONE = 64
"""Of the ways in which all that were not asked can be certain, so many are tried."""

MIXED = 12
"""So many times each of them is uncertain in a way of its own."""

UNSAFE, SAFE = (0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 0.0, 0.0)

steps = st.integers(0, 20).map(lambda step: step / 20)
numbers = steps | st.floats(0, 1, allow_subnormal=False)
"""Steps meet thresholds, bands and each other exactly."""
weights = st.just(USUAL) | st.lists(st.integers(1, 8), min_size=2, max_size=5).map(
    lambda given: tuple(one / sum(given) for one in given)
)
kinds: st.SearchStrategy[Safety] = st.sampled_from(("SAFE", "UNSAFE"))
safeties = st.lists(kinds, min_size=2, max_size=4).map(
    lambda given: {f"c{i}": one for i, one in enumerate(given)}
)
margins = st.just(0.0) | steps


def mixed(seed: int, names: Sequence[str], members: int) -> list[list[LabelScores]]:
    """Return what so many members may say, several times: from nearly certain to nearly even."""
    rng = np.random.default_rng(seed)
    evenness = rng.choice([0.05, 0.3, 1.0, 10.0], size=(MIXED, members))
    return [
        [saw(*rng.dirichlet(np.full(len(names), even)).tolist(), names=names) for even in row]
        for row in evenness
    ]


@st.composite
def everything(draw: st.DrawFn) -> tuple[Criteria, list[LabelScores]]:
    """Return criteria, and what each member would see."""
    by_name = draw(safeties)
    shares = draw(weights)
    unsafe = [name for name, safety in by_name.items() if safety == "UNSAFE"]
    some = st.dictionaries(st.sampled_from(unsafe), st.tuples(steps, margins)) if unsafe else st.just({})
    own = draw(st.just({}) | some)
    policy = policy_of(
        by_name,
        own=own,
        agreement_threshold=draw(steps),
        review_margin=draw(margins),
        scoring=draw(st.sampled_from(("softmax", "independent"))),
    )
    leaning = st.sampled_from((1, 1, 8))
    # half of all members are fairly certain, or next to nothing would be decided early
    rows = st.lists(st.tuples(numbers, leaning), min_size=len(by_name), max_size=len(by_name)).filter(
        lambda row: sum(share * lean for share, lean in row) > 1e-6
    )
    first = draw(rows)
    drawn = [draw(st.just(first) | rows) for _ in shares]
    seen = [saw(*(share * lean for share, lean in row), names=tuple(by_name)) for row in drawn]
    more: dict[str, Any] = {"unseen": ("c0",)} if draw(st.integers(0, 9)) == 0 else {}
    if draw(st.booleans()):
        more["undivided"] = draw(st.sets(st.integers(0, len(shares) - 1), min_size=1))
    return criteria_of(policy, threshold=draw(steps), weights=shares, **more), seen


def decided_by(
    criteria: Criteria, seen: Sequence[LabelScores], *, kind: Kind = "image", **known: Any
) -> bool:
    """Return whether those who saw this need ask nobody else."""
    picture = frame_of(0.5)
    frame = replace(picture, media=media_of(kind=kind, views=1, **known), inputs={})
    (answer,) = criteria.outcome_is_certain([frame], {f"m{i}": [one] for i, one in enumerate(seen)})
    return bool(answer)


def outcome_of(
    criteria: Criteria, seen: Sequence[LabelScores], **known: Any
) -> tuple[str | None, bool, FrameScore]:
    """Return decision, review and scores where these were asked, in order, and the others skipped."""
    skipped = tuple(judge.name for judge in criteria.judges[len(seen) :])
    verdict: Verdict = verdict_of(
        [evidence(*seen, item=item_of(), media=media_of(**known), skipped=skipped)], criteria
    )
    return verdict.decision, verdict.needs_review, verdict.deciding


@settings(max_examples=600)
@given(
    case=everything(), truncated=st.sampled_from((False, False, False, True)), seed=st.integers(0, 2**32 - 1)
)
def test_law_nobody_who_was_not_asked_could_have_changed_the_outcome(
    case: tuple[Criteria, list[LabelScores]], truncated: bool, seed: int
) -> None:
    criteria, seen = case
    names = criteria.names
    certain = [saw(*(float(name == one) for one in names), names=names) for name in names]
    if criteria.policy.is_independent:  # all that is UNSAFE at once, of which a softmax has a part each
        all_unsafe = [float(name in criteria.policy.unsafe) or 1e-9 for name in names]
        certain.append(saw(*all_unsafe, names=names))
    for asked in range(1, len(seen)):
        if not decided_by(criteria, seen[:asked], truncated=truncated):
            continue
        event("decided early")
        *early, scores = outcome_of(criteria, seen[:asked], truncated=truncated)
        assert scores.bounds is not None
        low, high = scores.bounds
        assert 0.0 <= low <= scores.unsafe_score <= high <= 1.0
        others = list(product(certain, repeat=len(seen) - asked))[:EVERYONE]
        uncertain = mixed(seed, names, len(seen) - asked)
        for rest in [seen[asked:], *others, *uncertain]:
            *late, full = outcome_of(criteria, [*seen[:asked], *rest], truncated=truncated)
            assert late == early
            assert low - 1e-9 <= full.unsafe_score <= high + 1e-9
            assert full.bounds is None


@settings(max_examples=400)
@given(
    case=everything(),
    other=st.integers(0, MIXED),
    truncated=st.sampled_from((False, False, False, True)),
    seed=st.integers(0, 2**32 - 1),
)
def test_law_no_view_of_a_still_could_have_changed_the_outcome(
    case: tuple[Criteria, list[LabelScores]], other: int, truncated: bool, seed: int
) -> None:
    """Of two views the second is like the first, or another one; the members not run may say anything."""
    criteria, first = case
    count, names = len(first), criteria.names
    views = [first, [*mixed(seed, names, count), first][other]]
    media = media_of(views=2, truncated=truncated)
    still = replace(frame_of(0.5), media=media, inputs={})
    frames = [replace(still, last=last) for last in (False, True)]
    certain = [saw(*(float(name == one) for one in names), names=names) for name in names]

    def outcome(said: Sequence[Sequence[LabelScores]]) -> tuple[str | None, bool]:
        skipped = tuple(judge.name for judge in criteria.judges[len(said[0]) :])
        seen = [evidence(*one, item=item_of(), media=media, skipped=skipped) for one in said]
        verdict = verdict_of([replace(seen[0], last=False), seen[1]], criteria)
        return verdict.decision, verdict.needs_review

    for asked in range(1, count):
        said = [view[:asked] for view in views]
        seen = {f"m{number}": [one[number] for one in said] for number in range(asked)}
        answers = criteria.outcome_is_certain(frames, seen)
        assert answers[0] == answers[1]
        if not answers[0]:
            continue
        event("decided early")
        sure = [[one] * (count - asked) for one in certain]
        rests = [view[asked:] for view in views], *product(sure, repeat=2)
        unsure = zip(*(mixed(seed + more, names, count - asked) for more in (1, 2)), strict=True)
        early = outcome(said)
        for pair in (*rests, *unsure):
            assert outcome([[*one, *rest] for one, rest in zip(said, pair, strict=True)]) == early


def leaning(unsafe: float) -> tuple[float, ...]:
    return (1 - unsafe, 0.0, unsafe, 0.0)


@pytest.mark.parametrize(
    ("views", "decided"),
    [
        ([(SAFE, SAFE), (SAFE, SAFE)], True),
        ([(UNSAFE, UNSAFE), (SAFE, SAFE)], True),  # NSFW, and whichever decides needs no review
        ([(UNSAFE, SAFE), (SAFE, SAFE)], False),  # the last member decides about the first view
        (
            [(UNSAFE, UNSAFE), (UNSAFE, SAFE)],
            True,
        ),  # it is NSFW by 0.75 at least, and the other is at 0.65 at most
        ([(UNSAFE, UNSAFE), (SAFE, UNSAFE)], True),  # 0.60 at most
        ([(leaning(0.9), leaning(0.9)), (UNSAFE, SAFE)], True),  # 0.675 at least
        ([(leaning(0.8), leaning(0.8)), (UNSAFE, SAFE)], False),  # 0.60 at least: the other may decide
        ([(SAFE, SAFE)], False),  # of two: the other one is not in this batch
    ],
)
def test_a_still_is_decided_with_all_its_views(
    views: list[tuple[tuple[float, ...], ...]], decided: bool
) -> None:
    criteria = criteria_of(weights=USUAL)
    frames = [replace(frame_of(0.5), media=media_of(views=2), inputs={})] * len(views)
    seen = {f"m{i}": [saw(*one[i]) for one in views] for i in range(2)}
    assert list(criteria.outcome_is_certain(frames, seen)) == [decided] * len(views)


def test_each_view_counts_for_thresholds_of_categories() -> None:
    """The second view has 0.225 to 0.475 of gore: under its threshold, in its band or over it."""
    frames = [replace(frame_of(0.5), media=media_of(views=2), inputs={})] * 2
    seen = {f"m{i}": [saw(*UNSAFE), saw(0.7, 0.0, 0.0, 0.3)] for i in range(2)}
    for own, decided in (({}, True), ({"gore": (0.35, 0.02)}, False)):
        criteria = criteria_of(policy_of(own=own), weights=USUAL)
        assert list(criteria.outcome_is_certain(frames, seen)) == [decided] * 2


@given(
    weird=st.lists(st.sampled_from((0.0, 0.4, 0.5, 0.51, 0.9)), min_size=3, max_size=3),
    unsafe=st.lists(st.sampled_from((0.0, 0.5, 1.0)), min_size=3, max_size=3),
    agreement=st.sampled_from((0.0, 0.7)),
)
def test_law_a_label_without_a_category_is_never_missed(
    weird: Sequence[float], unsafe: Sequence[float], agreement: float
) -> None:
    names = (*criteria_of().names, "weird")
    criteria = criteria_of(policy_of(agreement_threshold=agreement), weights=USUAL, unmapped=("weird",))
    seen = [
        saw(*(share * (1 - odd) for share in leaning(one)), odd, names=names)
        for odd, one in zip(weird, unsafe, strict=True)
    ]
    full = outcome_of(criteria, seen)
    for asked in (1, 2):
        if decided_by(criteria, seen[:asked]):
            event("decided early")
            assert outcome_of(criteria, seen[:asked])[:2] == full[:2]
            assert max(weird[:asked]) > 0.5, "one that was not asked could have had most without a category"


@pytest.mark.parametrize(
    ("said", "more", "decided"),
    [
        ([UNSAFE], {}, False),  # 0.40 at least, and the others may disagree
        ([UNSAFE, UNSAFE], {}, True),  # 0.75 at least, and 0.75 of the weight agrees
        ([SAFE, SAFE], {}, True),  # 0.25 at most
        ([leaning(0.65), leaning(0.65)], {}, False),  # 0.4875 at least
        ([leaning(0.7), leaning(0.7)], {}, True),  # 0.525 at least
        ([leaning(0.33), leaning(0.33)], {}, True),  # 0.4975 at most
        ([leaning(0.34), leaning(0.34)], {}, False),  # 0.505 at most
        ([leaning(0.7), leaning(0.7)], {"margin": 0.1}, False),  # 0.525 to 0.775 of a band to 0.6
        ([leaning(0.7), leaning(0.7)], {"margin": 0.3}, True),  # inside whatever comes
        ([UNSAFE, UNSAFE], {"margin": 0.1}, True),  # 0.75 at least
        ([UNSAFE, UNSAFE], {"agreement": 0.76}, False),  # 0.75 of the weight is not enough
        ([UNSAFE, SAFE], {}, False),  # 0.40 to 0.65: the last one decides
        ([UNSAFE, SAFE], {"threshold": 0.2}, True),  # NSFW; they disagree: 0.65 at most agrees
        ([UNSAFE, SAFE], {"threshold": 0.2, "agreement": 0.65}, False),
        ([UNSAFE], {"threshold": 0.3, "agreement": 0.3}, False),  # others may agree on something else
        ([UNSAFE], {"threshold": 0.3, "agreement": 0.0}, True),
        ([UNSAFE], {"threshold": 0.3, "unseen": ("gore",)}, True),  # needs review whatever comes
        ([UNSAFE], {"threshold": 0.3, "truncated": True}, True),
        ([UNSAFE, UNSAFE], {"kind": "animation"}, False),  # all scores of all frames count
        ([UNSAFE, UNSAFE], {"kind": "video"}, False),
    ],
)  # fmt: skip
def test_what_is_decided_by_hand(
    said: Sequence[Sequence[float]], more: dict[str, Any], decided: bool
) -> None:
    policy = policy_of(agreement_threshold=more.pop("agreement", 0.7), review_margin=more.pop("margin", 0.0))
    known = {name: more.pop(name) for name in ("truncated", "kind") if name in more}
    criteria = criteria_of(policy, weights=USUAL, **more)
    assert decided_by(criteria, [saw(*one) for one in said], **known) == decided


@pytest.mark.parametrize(
    ("own", "undivided", "decided"),
    [
        ({}, (), True),  # 0.48 to 0.68 of a threshold of 0.9
        ({"gore": (0.5, 0.0)}, (), True),  # gore is 0.24 to 0.44
        ({"gore": (0.35, 0.0)}, (), False),
        ({"gore": (0.1, 0.0)}, (), True),  # NSFW, whatever the others say
        ({"gore": (0.1, 0.05)}, (), True),  # and far enough from it
        ({"gore": (0.1, 0.15)}, (), False),
        ({"gore": (0.5, 0.0)}, (0,), False),  # 0.48 to 0.68, since its label stands for nude too
        ({"gore": (0.1, 0.15)}, (0,), True),
    ],
)
def test_what_thresholds_of_categories_decide_by_hand(
    own: dict[str, tuple[float, float]], undivided: Sequence[int], decided: bool
) -> None:
    policy = policy_of(own=own, agreement_threshold=0.0)
    criteria = criteria_of(policy, threshold=0.9, weights=(0.8, 0.2), undivided=undivided)
    assert decided_by(criteria, [saw(0.4, 0.0, 0.3, 0.3)]) == decided


def test_words_that_forbid_nothing_are_decided_by_agreement_alone() -> None:
    harmless = policy_of({"cat": "SAFE", "dog": "SAFE"})
    criteria = criteria_of(harmless, weights=USUAL)
    names = criteria.names
    certain, torn = saw(1.0, 0.0, names=names), saw(0.6, 0.4, names=names)
    assert decided_by(criteria, [certain, certain])
    assert not decided_by(criteria, [torn, torn])
    decision, review, scores = outcome_of(criteria, [certain, certain])
    assert (decision, review, scores.bounds) == (None, False, (0.0, 0.0))


def test_what_was_said_is_scaled_to_those_asked() -> None:
    decision, review, scores = outcome_of(
        criteria_of(weights=USUAL), [saw(*leaning(0.9)), saw(*leaning(0.75))]
    )
    assert (decision, review) == ("NSFW", False)
    assert scores.unsafe_score == pytest.approx((0.4 * 0.9 + 0.35 * 0.75) / 0.75)
    assert scores.bounds == pytest.approx((0.4 * 0.9 + 0.35 * 0.75, 0.4 * 0.9 + 0.35 * 0.75 + 0.25))
    assert (scores.skipped, list(scores.by_model), scores.agreement) == (("m2",), ["m0", "m1"], 1.0)
    assert sum(scores.probabilities.values()) == pytest.approx(1.0)


def test_one_that_is_no_number_is_never_decided() -> None:
    nothing = saw(0.0, 0.0, 0.0, 0.0)  # no label of any category: the shares are 0 / 0
    criteria = criteria_of(weights=USUAL)
    assert not decided_by(criteria, [saw(*UNSAFE), nothing])
    frames = [frame_of(0.5, 0), frame_of(0.5, 1)]
    seen = {"m0": [saw(*UNSAFE), nothing], "m1": [saw(*UNSAFE), saw(*UNSAFE)]}
    assert np.array_equal(criteria.outcome_is_certain(frames, seen), [True, False])
