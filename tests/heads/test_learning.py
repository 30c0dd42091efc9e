"""Heads are learnt of the view that shows the category, and measured without having seen it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.heads import learning
from clipmod_cli.evaluate.heads.examples import HeadExamples
from clipmod_cli.evaluate.heads.learning import Bags, groups_of, learn, split
from clipmod_cli.evaluate.heads.measuring import precision_gained, precision_of, teach
from clipmod_cli.evaluate.matching import Matches

SIZE = 48


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def bags_of(
    count: int, views: int, *, shown_in: int = 1, noise: float = 1.0, seed: int = 1, group: int = 1
) -> Bags:
    """Return inputs of which half show something in some of their views; groups of so many are alike."""
    rng = np.random.default_rng(seed)
    something = unit(rng.standard_normal((1, SIZE)))
    positive = np.arange(count) // group % 2 == 0
    rows = noise * rng.standard_normal((count, views, SIZE)) / np.sqrt(SIZE)
    for number in np.flatnonzero(positive):
        rows[number, rng.permutation(views)[:shown_in]] += something
    return Bags(
        rows=unit(rows.reshape(-1, SIZE)),
        starts=np.arange(count) * views,
        positive=positive,
        group=np.arange(count) // group,
    )


def scores(bags: Bags, of: Bags) -> NDArray[np.float64]:
    return np.asarray(np.maximum.reduceat(learn(bags).probabilities(of.rows), of.starts))


@pytest.mark.parametrize("count", [40, 90])
def test_a_head_is_the_library_s_logistic_regression_with_balanced_classes(count: int) -> None:
    """Also where the axes were turned, since there are fewer rows than numbers in a row."""
    bags = bags_of(count, 1, noise=2.0)
    bags = bags.among(np.flatnonzero(bags.positive | (np.arange(count) % 6 == 1)))
    head = learn(bags)
    usual = LogisticRegression(C=head.c, class_weight="balanced", tol=1e-8, max_iter=10_000)
    usual.fit(bags.rows, bags.positive)
    assert head.probabilities(bags.rows) == pytest.approx(usual.predict_proba(bags.rows)[:, 1], abs=0.02)


def test_the_view_that_shows_the_category_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    every = bags_of(320, 12, noise=1.2)
    bags, fresh = every.among(np.arange(120)), every.among(np.arange(120, 320))
    by_views = precision_of(fresh.positive, scores(bags, fresh)).value or 0.0
    monkeypatch.setattr(learning, "ROUNDS", 0)
    by_all = precision_of(fresh.positive, scores(bags, fresh)).value or 0.0
    assert by_views > 0.98
    assert by_views > by_all + 0.03


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), min_size=8, max_size=60), st.integers(2, 5))
def test_folds_keep_groups_together_and_have_both_kinds(inputs: list[tuple[bool, int]], folds: int) -> None:
    positive = np.array([one for one, _ in inputs], dtype=bool)
    group = np.array([one for _, one in inputs], dtype=np.intp)
    parts = list(split(positive, group, folds))
    assert sorted(np.concatenate([held_out for _, held_out in parts]).tolist()) == list(range(len(inputs)))
    enough = min(map(len, groups_of(positive, group))) >= folds
    for learnt_from, held_out in parts:
        assert not set(group[learnt_from]) & set(group[held_out])
        if enough:
            assert positive[held_out].any()
            assert positive[learnt_from].any()
            assert not positive[learnt_from].all()


def examples_of(*models: Bags) -> HeadExamples:
    first = models[0]
    return HeadExamples(
        category="cat",
        rows={f"m{number}": one.rows for number, one in enumerate(models)},
        starts=first.starts,
        positive=first.positive,
        group=first.group,
        counts=[],
        open=0,
        broken=0,
        digest="",
        matches=Matches(labels=0),
        words=None,
    )


def test_copies_do_not_vouch_for_each_other() -> None:
    """Labels that mean nothing, four copies of each picture: it must look like chance."""
    rng = np.random.default_rng(3)
    rows = np.repeat(unit(rng.standard_normal((60, SIZE))), 4, axis=0)
    positive = np.repeat(np.arange(60) % 2 == 0, 4)
    made = Bags(rows=rows, starts=np.arange(240), positive=positive, group=np.repeat(np.arange(60), 4))
    honest = precision_of(positive, teach(examples_of(made), {"m0": 1.0}).held_out.together)
    alone = Bags(rows=rows, starts=made.starts, positive=positive, group=np.arange(240))
    flattering = precision_of(positive, teach(examples_of(alone), {"m0": 1.0}).held_out.together)
    assert (honest.value or 1.0) < 0.75
    assert (flattering.value or 0.0) > 0.99


def test_models_count_by_weight_before_the_worst_view_does() -> None:
    taught = teach(examples_of(bags_of(80, 2), bags_of(80, 2, seed=2)), {"m0": 0.75, "m1": 0.25})
    assert taught.folds == 5
    assert set(taught.heads) == {"m0", "m1"}
    both = taught.held_out
    assert (both.together <= 0.75 * both.by_model["m0"] + 0.25 * both.by_model["m1"] + 1e-12).all()
    positive = bags_of(80, 2).positive
    gained = precision_gained(positive, both.by_model["m0"], both.by_model["m0"])
    assert (gained.value, gained.low, gained.high) == (0.0, 0.0, 0.0)
    worse = precision_gained(positive, both.together, np.linspace(0, 1, 80))
    assert (worse.low or 0.0) > 0


def test_too_few_different_pictures_are_refused() -> None:
    made = bags_of(60, 1, group=10)
    with pytest.raises(
        UsageError, match="the 30 inputs that are cat are 3 different pictures, the 30 others 3"
    ):
        teach(examples_of(made), {"m0": 1.0})
