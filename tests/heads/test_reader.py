"""What a policy with heads says of embeddings, and which models may judge by it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipmod_cli.errors import BlindModelError, PolicyError
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.head_reader import HeadReader
from clipmod_cli.judge.policy.values import Category, Policy, policy_notes, seen_categories
from clipmod_cli.judge.prepare import criteria_of
from clipmod_cli.judge.readers import TextReader, own_scores
from clipmod_cli.types import Embedding
from tests.heads.kit import f32, make_head, of_model

UNSAFE = (False, False, True, True, True)
"""neutral, cat (a head), nude, gore (a head), weapon (a head)"""
NEUTRAL, CAT, NUDE, GORE, WEAPON = range(5)
DIRECTIONS = np.eye(4, dtype=np.float32)
PROMPTS = TextReader(vectors=DIRECTIONS[:2], visible=(NEUTRAL, NUDE), total=5, scale=3.0)

unit = st.lists(st.integers(-4, 4), min_size=4, max_size=4).filter(any)
heads_of = st.lists(st.floats(-8, 8, width=32), min_size=5, max_size=5)


def reader(*heads: tuple[int, list[float]], prompts: TextReader | None = PROMPTS) -> HeadReader:
    """Return a reader with heads in the order of severity; the last of each one's numbers is its bias."""
    made = [(index, of_model(*numbers[:4], bias=numbers[4])) for index, numbers in heads]
    return HeadReader(heads=made, unsafe=UNSAFE, prompts=prompts, rest=NEUTRAL)


def vectors_of(rows: list[list[int]]) -> NDArray[np.float32]:
    rows_ = np.asarray(rows, dtype=np.float32)
    return np.asarray(rows_ / np.linalg.norm(rows_, axis=1, keepdims=True))


@given(st.lists(unit, min_size=1, max_size=4), heads_of, heads_of, heads_of)
def test_shares_are_a_distribution_in_which_what_is_unsafe_comes_first(
    rows: list[list[int]], weapon: list[float], gore: list[float], cat: list[float]
) -> None:
    vectors = vectors_of(rows)
    full = reader((WEAPON, weapon), (GORE, gore), (CAT, cat))
    shares, own = full.read_both(vectors)
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert (shares >= 0).all()
    found = {index: head.probabilities(vectors) for index, head in full.heads}
    assert shares[:, WEAPON] == pytest.approx(found[WEAPON])
    assert shares[:, GORE] == pytest.approx(np.minimum(found[GORE], 1 - found[WEAPON]))
    assert own[:, GORE] == pytest.approx(found[GORE])
    assert own[:, [NEUTRAL, CAT, NUDE]] == pytest.approx(shares[:, [NEUTRAL, CAT, NUDE]])
    unsafe = np.asarray(UNSAFE)
    without_cat = reader((WEAPON, weapon), (GORE, gore)).read_vectors(vectors)
    assert shares[:, unsafe] == pytest.approx(without_cat[:, unsafe]), "a SAFE head takes from nothing UNSAFE"
    left = 1 - shares[:, unsafe].sum(axis=1)
    assert shares[:, CAT] == pytest.approx(np.minimum(found[CAT], left), abs=1e-12)
    by_prompts = PROMPTS.read_vectors(vectors)
    rest = np.maximum(1 - found[WEAPON] - found[GORE], 0)
    assert shares[:, NUDE] == pytest.approx(by_prompts[:, NUDE] * rest, abs=1e-12)
    one_by_one = [full.read(Embedding(vector=vector)) for vector in vectors]
    assert shares == pytest.approx(np.stack(one_by_one), abs=1e-12)
    each = [own_scores(full, Embedding(vector=v), s) for v, s in zip(vectors, shares, strict=True)]
    assert own == pytest.approx(np.stack(each), abs=1e-12)


def test_without_prompts_the_rest_is_of_the_otherwise_category() -> None:
    alone = reader((GORE, [2.0, 0.0, 0.0, 0.0, 1.0]), prompts=None)
    vectors = DIRECTIONS[:2]
    expected = 1 / (1 + np.exp([-3.0, -1.0]))
    shares = alone.read_vectors(vectors)
    assert shares[:, GORE] == pytest.approx(expected)
    assert shares[:, NEUTRAL] == pytest.approx(1 - expected)
    assert not alone.has_own_scores


def test_numbers_that_are_not_finite_stay_so() -> None:
    shares = reader((GORE, [1.0, 0, 0, 0, 0])).read_vectors(np.full((1, 4), np.nan, dtype=np.float32))
    assert not np.isfinite(shares).all()


def test_with_independent_scoring_heads_do_not_move_each_other() -> None:
    heads = ((WEAPON, [4.0, 0, 0, 0, 0]), (GORE, [3.0, 0, 0, 0, 0]))
    found = replace(reader(*heads, prompts=None), independent=True).read_vectors(DIRECTIONS[:1])[0]
    assert found[[WEAPON, GORE]] == pytest.approx(1 / (1 + np.exp([-4.0, -3.0])))
    assert found[NEUTRAL] == 0.5


@dataclass
class Clip:
    """A text-image model of two texts: `nude` points up, `neutral` to the right."""

    name: str = "clip"
    spec: str = "clip"
    revision: str = "1"
    dtype: str = "float32"
    kind: Literal["text-image"] = "text-image"
    logit_scale: float = 10.0

    def embed(self, prompts: object) -> NDArray[np.float32]:
        known = {"neutral": [1.0, 0.0], "nude": [0.0, 1.0]}
        return np.asarray([known[text] for text in prompts], dtype=np.float32)  # type: ignore[attr-defined]


GORE_HEAD = make_head("gore", {"clip": ([3.0, 0.0], 0.0), "second": ([0.0, 1.0], 0.0)})
HEADED = Policy(
    name="headed",
    categories=(
        Category(name="neutral", safety="SAFE", prompts=("neutral",)),
        Category(name="nude", safety="UNSAFE", prompts=("nude",)),
        Category(name="gore", safety="UNSAFE", head=GORE_HEAD),
    ),
)
ALONE = Policy(
    name="alone",
    categories=(Category(name="rest", safety="SAFE", otherwise=True), HEADED.categories[2]),
)


def prepared(policy: Policy, *models: Clip, allow_partial: bool = False) -> Criteria:
    members = [(model, 1 / len(models)) for model in models]
    return criteria_of(members, policy, threshold=0.5, degraded=False, allow_partial=allow_partial)


def test_each_model_reads_by_its_own_head() -> None:
    criteria = prepared(HEADED, Clip(), Clip(name="b", spec="second"))
    vector = Embedding(vector=f32([1, 0]))
    first, second = (judge.reader.read(vector)[2] for judge in criteria.judges)
    assert first == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert second == 0.5
    (one,) = prepared(ALONE, Clip()).judges
    assert one.reader.read(vector) == pytest.approx([1 - first, first])


def test_a_model_that_has_no_head_does_not_see_the_category() -> None:
    other = Clip(name="third", spec="third")
    assert seen_categories(HEADED, spec="third", text_image=True) == ("neutral", "nude")
    assert seen_categories(ALONE, spec="clip", text_image=True) == ("rest", "gore")
    assert seen_categories(ALONE, spec="third", text_image=True) == ()
    with pytest.raises(BlindModelError, match="The head of gore is for clip, second: use these, or learn it"):
        prepared(HEADED, Clip(), other)
    partial = prepared(HEADED, Clip(), other, allow_partial=True)
    assert partial.unseen == ["gore"]
    assert partial.judges[1].reader.read(Embedding(vector=f32([1, 0])))[2] == 0
    with pytest.raises(BlindModelError, match="sees none of the categories"):
        prepared(ALONE, other, allow_partial=True)


def test_a_head_of_other_weights_is_refused_always() -> None:
    with pytest.raises(PolicyError, match="was learnt on clip at 1, not at 2"):
        prepared(HEADED, Clip(revision="2"), allow_partial=True)


def test_a_policy_without_a_place_for_the_rest_is_refused() -> None:
    homeless = replace(
        ALONE, categories=(replace(ALONE.categories[1], name="dog", safety="SAFE"), ALONE.categories[1])
    )
    with pytest.raises(BlindModelError, match="for what no head recognises"):
        prepared(homeless, Clip())


def test_notes_name_the_models_that_heads_are_for() -> None:
    assert policy_notes(HEADED) == ()
    assert policy_notes(ALONE) == ()
    half = make_head("nude", {"clip": ([1.0, 0.0], 0.0)})
    nude = Category(name="nude", safety="UNSAFE", head=half)
    mixed = replace(HEADED, categories=(HEADED.categories[0], nude, HEADED.categories[2]))
    assert policy_notes(mixed) == ("second cannot see nude, and is refused without --allow-partial",)
