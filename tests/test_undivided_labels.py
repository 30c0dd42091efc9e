"""Labels that stand for several UNSAFE categories: they count once, and their models agree by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clipmod_cli.judge.policy.values import Safety
from clipmod_cli.judge.readers import LabelReader
from clipmod_cli.types import FrameScore, LabelScores
from tests.evidence import NAMES, criteria_of, evidence, policy_of, saw, verdict_of

NUDE, EXPLICIT = (0.1, 0.0, 0.9, 0.0), (0.1, 0.0, 0.0, 0.9)
SAFE = (0.9, 0.0, 0.1, 0.0)


def deciding(*seen: Sequence[float], undivided: Sequence[int] = (), weights: Sequence[float]) -> FrameScore:
    criteria = criteria_of(weights=weights, undivided=undivided)
    return verdict_of([evidence(*(saw(*one) for one in seen))], criteria).deciding


def test_an_undivided_label_counts_once_and_is_named_as_the_mildest() -> None:
    labels = [frozenset({"sfw"}), frozenset({"nsfw"}), frozenset({"nsfw", "gore"})]
    reader = LabelReader(labels=labels)
    shares = reader.read(LabelScores(scores={"sfw": 0.2, "nsfw": 0.7, "gore": 0.1}))
    assert shares == pytest.approx(np.array([0.2, 0.7, 0.1]))
    assert reader.has_undivided
    assert list(reader.labels) == labels  # a category's own labels are all known
    assert not LabelReader(labels=[frozenset({"a"}), frozenset({"b"})]).has_undivided


def test_members_that_name_another_unsafe_category_agree_only_by_side() -> None:
    assert deciding(NUDE, EXPLICIT, weights=(0.5, 0.5)).agreement == 0.5
    assert deciding(NUDE, EXPLICIT, weights=(0.5, 0.5), undivided=[0]).agreement == 1.0


def test_members_on_different_sides_disagree() -> None:
    assert deciding(SAFE, EXPLICIT, weights=(0.4, 0.6), undivided=[0]).agreement == pytest.approx(0.6)
    assert deciding(SAFE, NUDE, weights=(0.75, 0.25), undivided=[0]).agreement == pytest.approx(0.75)


def test_a_side_is_the_larger_sum_not_the_top_category() -> None:
    torn = (0.4, 0.0, 0.3, 0.3)  # its top category is SAFE, its side UNSAFE
    assert deciding(torn, NUDE, weights=(0.5, 0.5)).agreement == 0.5
    assert deciding(torn, NUDE, weights=(0.5, 0.5), undivided=[1]).agreement == 1.0
    even = (0.5, 0.0, 0.5, 0.0)  # as severe as it can be
    assert deciding(even, NUDE, weights=(0.5, 0.5), undivided=[1]).agreement == 1.0


# whole numbers: sums of shares are exact enough to compare
rows = st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(any)
weights = st.lists(st.integers(1, 8), min_size=1, max_size=4)


@given(st.data(), weights)
def test_law_dividing_or_not_never_changes_a_side(data: st.DataObject, given_weights: list[int]) -> None:
    """The unsafe score of undivided labels is that of divided ones: nothing counts twice, nothing is lost."""
    shares = [one / sum(given_weights) for one in given_weights]
    seen = [data.draw(rows) for _ in shares]
    plain = deciding(*seen, weights=shares)
    undivided = data.draw(st.sets(st.integers(0, len(shares) - 1), min_size=1))
    merged = deciding(*seen, weights=shares, undivided=sorted(undivided))
    assert merged.unsafe_score == pytest.approx(plain.unsafe_score, abs=1e-6)
    assert sum(merged.probabilities.values()) == pytest.approx(1.0)
    if len(undivided) == len(shares):  # the severer of the two is never named
        assert merged.probabilities[NAMES[-1]] == 0


@given(st.data(), weights)
def test_law_agreement_by_side_is_agreement_under_a_policy_of_two_sides(
    data: st.DataObject, given_weights: list[int]
) -> None:
    shares = [one / sum(given_weights) for one in given_weights]
    seen = [data.draw(rows) for _ in shares]
    sides: dict[str, Safety] = {"fine": "SAFE", "bad": "UNSAFE"}
    two = criteria_of(policy_of(sides), weights=shares)
    assume(all(one[0] + one[1] != one[2] + one[3] for one in seen))  # sums may miss each other by rounding
    summed = [saw(one[0] + one[1], one[2] + one[3], names=tuple(sides)) for one in seen]
    expected = verdict_of([evidence(*summed)], two).deciding
    assume(abs(expected.unsafe_score - 0.5) > 1e-6)
    assert deciding(*seen, weights=shares, undivided=[0]).agreement == expected.agreement
