"""The rule that a sample gives is within its risk, and is the cheapest that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from clipmod_cli.judge.exits.sample import ExitRule, Sample, most_errors

STAGES = ("screen", "l", "h")
COSTS, REST = (30.0, 800.0, 1600.0), 2500.0
RUNS = 200
MOST_BROKEN = 19
"""Of 200 runs, by five percent and three standard deviations."""
PICTURES = 30_000


@dataclass(frozen=True)
class Pictures:
    """Scores `(n, stages)` of one view each, and whether all models call it NSFW."""

    scores: NDArray[np.float64]
    flagged: NDArray[np.bool_]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, count: int, noise: tuple[float, ...], unsafe: float = 0.03
    ) -> Pictures:
        """Draw pictures; what a stage says differs from what all say by its noise."""
        together = np.where(rng.random(count) < unsafe, rng.beta(6, 2, count), rng.beta(1.2, 9, count))
        scores = np.stack([(together + rng.normal(0, spread, count)) / 0.4 for spread in noise], axis=1).clip(
            0
        )
        return cls(np.where(scores < 1.0, scores, np.inf), together >= 0.5)

    def sample(self, risk: float, screens: int = 1, stages: tuple[str, ...] = STAGES) -> Sample:
        sample = Sample(stages=stages, screens=screens, risk=risk)
        for scores, flagged in zip(self.scores, self.flagged, strict=True):
            sample.add(scores[np.newaxis], np.array([flagged]))
        return sample

    def errors(self, rule: ExitRule) -> float:
        """Return the share of pictures that all models flag and that exit early."""
        return float((self.flagged & rule.exits(self.scores, STAGES)).mean())


@pytest.mark.parametrize("noise", [(0.25, 0.12, 0.06), (0.5, 0.4, 0.3)], ids=["good", "bad"])
def test_the_risk_is_exceeded_in_five_percent_of_runs_at_most(noise: tuple[float, ...]) -> None:
    risk = 0.01
    needed = Sample(stages=STAGES, screens=1, risk=risk).needed
    broken = 0
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        rule = Pictures.draw(rng, needed, noise).sample(risk).rule(COSTS, REST)
        broken += rule is not None and Pictures.draw(rng, PICTURES, noise).errors(rule) > risk
    assert broken <= MOST_BROKEN


def test_the_bound_is_tight_enough_to_be_broken_sometimes() -> None:
    """A rule without exits would be within every risk: here as many exit as are allowed."""
    rng = np.random.default_rng(1)
    shares = []
    noise = (0.4, 0.25, 0.2)
    for _ in range(40):
        rule = Pictures.draw(rng, 2000, noise, 0.2).sample(0.01).rule(COSTS, REST)
        shares.append(0.0 if rule is None else Pictures.draw(rng, PICTURES, noise, 0.2).errors(rule))
    assert 0.002 < np.median(shares) < 0.01


def test_a_screen_that_knows_nothing_is_left_out() -> None:
    rng = np.random.default_rng(2)
    drawn = Pictures.draw(rng, 3000, (0.2, 0.12, 0.06))
    blind = drawn.scores.copy()
    blind[:, 0] = rng.random(3000) * 0.9
    useful, useless = drawn.sample(0.005), Pictures(blind, drawn.flagged).sample(0.005)
    with_it, without = useful.rule(COSTS, REST), useless.rule(COSTS, REST)
    assert with_it is not None
    assert without is not None
    assert "screen" in with_it.highest
    assert set(without.highest) <= {"l", "h"}
    assert with_it.cost < without.cost < 0.5


@pytest.mark.parametrize(("risk", "least"), [(0.01, 299), (0.001, 2995)])
def test_too_few_pictures_give_no_rule(risk: float, least: int) -> None:
    """299 pictures without an error are the first that rule out one of a hundred, with 95 % confidence."""
    assert most_errors(least - 1, risk, 0.05) is None
    assert most_errors(least, risk, 0.05) == 0
    sample = Sample(stages=("l",), screens=0, risk=risk)
    assert least <= sample.needed < least * 1.21 + 2
    for _ in range(sample.needed):
        assert not sample.is_complete
        assert sample.rule((1.0,), 1.0) is None or sample.tested >= least
        sample.add(np.array([[0.1]]), np.array([False]))
    assert sample.is_complete
    assert sample.rule((1.0,), 1.0) == ExitRule(highest={"l": 0.1}, cost=0.5)


def test_no_view_exits_above_a_flagged_picture() -> None:
    rng = np.random.default_rng(3)
    sample = Sample(stages=("l",), screens=0, risk=0.01)
    values = rng.permutation(np.linspace(0.0, 0.9, sample.needed))
    for number, value in enumerate(values):
        sample.add(np.array([[value]]), np.array([number == 100]))  # 100 is none that gives the scale
    rule = sample.rule((1.0,), 9.0)
    assert rule is not None
    assert rule.highest["l"] < values[100]
    scale = np.sort(values[::6])
    assert rule.highest["l"] == scale[scale < values[100]].max()


@pytest.mark.parametrize(
    ("flagged", "highest"), [((True, True), 0.5), ((True, False), 0.5), ((False, True), None)]
)
def test_of_several_views_each_flagged_one_has_to_exit_for_an_error(
    flagged: tuple[bool, bool], highest: float | None
) -> None:
    sample = Sample(stages=("l",), screens=0, risk=0.01)
    for number in range(sample.needed):
        views = np.array([[0.5 + 0.0001 * number], [0.05]])
        sample.add(views, np.array(flagged if number == 1 else (False, False)))
    rule = sample.rule((1.0,), 9.0)
    assert (rule and rule.highest["l"]) == highest


@given(tested=st.integers(1, 5000), risk=st.floats(0.001, 0.1), delta=st.floats(0.01, 0.1))
def test_law_the_number_of_errors_is_that_of_the_binomial_distribution(
    tested: int, risk: float, delta: float
) -> None:
    found = most_errors(tested, risk, delta)
    if found is None:
        assert binom.cdf(0, tested, risk) > delta * (1 - 1e-9)
    else:
        assert binom.cdf(found, tested, risk) <= delta * (1 + 1e-9)
        assert binom.cdf(found + 1, tested, risk) > delta * (1 - 1e-9)
