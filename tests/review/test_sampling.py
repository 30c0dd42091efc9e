"""Decisions of a sorted queue and of a draw: rates weighted by their probabilities are unbiased."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from clipmod_cli.review.decisions import DecisionState, ReviewDecision
from clipmod_cli.review.sampling import draw_of, inclusion_probabilities
from tests.review.decisions import decided

ALL = 300


def probabilities(*decisions: ReviewDecision) -> dict[str, float]:
    state = DecisionState()
    for one in decisions:
        state.add(one)
    return {state.current[key].source: p for key, p in inclusion_probabilities(state).items()}


def audit(name: str, probability: float, priority: float | None = None) -> ReviewDecision:
    return decided(name, why="audit", probability=probability, priority=priority)


def test_what_a_sorted_queue_reached_was_certain() -> None:
    assert probabilities(decided("a"), decided("b")) == {"a": 1.0, "b": 1.0}


def test_a_drawn_one_counts_by_how_far_the_draw_got() -> None:
    found = probabilities(audit("a", 0.01), decided("q"), audit("b", 0.04))
    assert found == {"a": 0.04, "q": 1.0, "b": 0.04}


def test_a_drawn_one_that_the_queue_reached_later_was_certain() -> None:
    drawn, later = audit("a", 0.01, priority=0.2), decided("q", priority=0.3)
    assert probabilities(drawn, later)["a"] == 1.0
    assert probabilities(drawn, decided("q", priority=0.1))["a"] == 0.01


def test_a_drawn_one_whose_near_copies_the_queue_reached_later_was_certain() -> None:
    """It has their place in the queue; what has the same place by chance was not reached with them."""
    drawn = [audit(name, 0.01, priority=0.3).model_copy(update={"stack": name}) for name in ("s", "t")]
    unqueued = audit("u", 0.01).model_copy(update={"stack": "s"})
    reached = decided("q", priority=0.3, stack="s")
    assert probabilities(*drawn, unqueued, reached) == {"s": 1.0, "t": 0.01, "u": 0.01, "q": 1.0}
    assert probabilities(audit("v", 0.01, priority=0.3), decided("q", priority=0.3))["v"] == 0.01


def test_a_draw_that_begins_anew_among_more_inputs() -> None:
    """The new ones count as reached when they are, and not by how far the draw was before them."""
    found = probabilities(audit("old", 0.1), audit("new", 0.002), audit("newer", 0.005))
    assert found == {"old": 0.1, "new": 0.005, "newer": 0.005}


def test_an_undone_decision_counts_no_more() -> None:
    assert probabilities(
        audit("a", 0.01), audit("b", 0.5), audit("b", 0.5).model_copy(update={"label": "undo"})
    ) == {"a": 0.01}


def test_the_draw_depends_on_the_seed_and_is_uniform() -> None:
    places = [draw_of("seed", f"{number:064x}") for number in range(2000)]
    assert abs(sum(places) / len(places) - 0.5) < 0.03
    assert draw_of("seed", "a") != draw_of("another", "a")


def reviewed(
    contents: Sequence[tuple[str, float]], seed: str, most: int, rate: float
) -> Iterator[ReviewDecision]:
    """Yield decisions as a review makes them: a sorted queue of what scores over 0.5, and a draw of all."""
    queue = sorted((1 - score, name) for name, score in contents if score > 0.5)
    drawn = sorted((draw_of(seed, decided(name).key), name) for name, _ in contents)
    scores = dict(contents)
    done = set[str]()
    audits, rank = 0, 0
    for count in range(most):
        if audits + 1 <= rate * (count + 1):
            while drawn[rank][1] in done:
                rank += 1
            name, why, probability, audits = drawn[rank][1], "audit", (rank + 1) / len(contents), audits + 1
        else:
            name = next(name for _, name in queue if name not in done)
            why, probability = "queue", 1.0
        done.add(name)
        priority = 1 - scores[name] if scores[name] > 0.5 else None
        yield decided(name, why=why, order="severity", priority=priority, probability=probability, seed=seed)


@pytest.mark.parametrize(("most", "rate"), [(60, 0.1), (40, 0.3), (90, 0.5)])
def test_weighted_counts_are_unbiased(most: int, rate: float) -> None:
    """What is unsafe and scores low is found by the draw alone."""
    numbers = random.Random(7)
    contents = [(f"{number}.jpg", numbers.random()) for number in range(ALL)]
    unsafe = {name for name, score in contents if numbers.random() < (0.8 if score > 0.8 else 0.1)}
    sums = []
    for trial in range(400):
        state = DecisionState()
        for one in reviewed(contents, f"seed {trial}", most, rate):
            state.add(one)
        weights = {state.current[key].source: 1 / p for key, p in inclusion_probabilities(state).items()}
        sums.append(sum(weight for name, weight in weights.items() if name in unsafe))
    mean = sum(sums) / len(sums)
    error = (sum((one - mean) ** 2 for one in sums) / len(sums) ** 2) ** 0.5
    assert abs(mean - len(unsafe)) < 4 * error + 0.02 * len(unsafe)
