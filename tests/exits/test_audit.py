"""The audit of early exit: few false alarms, a change is noticed, and the interval holds at any time."""

from __future__ import annotations

import numpy as np
import pytest

from clipmod_cli.judge.exits.audit import DELTA, Audit

RUNS = 200
MOST = RUNS * DELTA + 3 * (RUNS * DELTA * (1 - DELTA)) ** 0.5


def audited(rng: np.random.Generator, risk: float, *rates: tuple[int, float]) -> Audit:
    audit = Audit(risk)
    for count, rate in rates:
        for error in rng.random(count) < rate:
            audit.add(error=bool(error))
    return audit


@pytest.mark.parametrize("risk", [0.01, 0.001])
def test_a_rate_at_the_risk_is_seldom_called_broken(risk: float) -> None:
    runs = [audited(np.random.default_rng(seed), risk, (600, risk)) for seed in range(RUNS)]
    assert sum(audit.broken for audit in runs) <= MOST


@pytest.mark.parametrize(
    ("risk", "rate", "within"), [(0.05, 0.075, 6000), (0.001, 0.1, 150), (0.01, 0.3, 100), (0.01, 1.0, 8)]
)
def test_a_change_half_way_is_noticed(risk: float, rate: float, within: int) -> None:
    runs = [
        audited(np.random.default_rng(seed), risk, (1000, risk / 5), (within, rate)) for seed in range(50)
    ]
    assert sum(audit.broken for audit in runs) >= 45


def test_what_is_broken_stays_so_and_is_dated_before_the_first_error() -> None:
    audit = audited(np.random.default_rng(0), 0.01, (100, 0.0))
    assert (audit.clean, audit.broken) == (100, False)
    while not audit.broken:
        audit.add(error=True)
    dated = audit.doubtful_from()
    assert 90 < dated <= audit.clean == 100
    for _ in range(20):
        audit.add(error=False)
    assert audit.broken
    assert audit.clean == 100


def test_a_doubt_that_passes_is_no_date() -> None:
    audit = audited(np.random.default_rng(0), 0.01, (300, 0.0))
    audit.add(error=True)
    for _ in range(600):
        audit.add(error=False)
    assert audit.clean == 901
    while not audit.broken:
        audit.add(error=True)
    assert audit.doubtful_from() > 890


@pytest.mark.parametrize(
    ("risk", "before", "rate", "most"),
    [(0.001, 0.0, 0.7, 30), (0.001, 0.001, 0.1, 250), (0.01, 0.01, 0.1, 300), (0.05, 0.02, 0.3, 80)],
)
def test_a_change_is_seldom_dated_too_late_and_not_much_too_early(
    risk: float, before: float, rate: float, most: int
) -> None:
    """Audits after the change that are no errors must not move the date past it."""
    start, early = 800, []
    for seed in range(RUNS):
        rng, audit = np.random.default_rng(seed), Audit(risk)
        for error in (*(rng.random(start) < before), *(rng.random(800) < rate)):
            audit.add(error=bool(error))
            if audit.broken:
                break
        if audit.count > start and audit.broken:
            early.append(start - audit.doubtful_from())
    assert len(early) > 0.8 * RUNS
    assert sum(one < 0 for one in early) <= 0.05 * len(early)
    assert np.median(early) < most


def test_a_rate_hardly_over_the_risk_has_no_date() -> None:
    audit = Audit(0.05)
    for number in range(4000):
        audit.add(error=number % 10 == 0)
        if audit.broken:
            break
    assert audit.broken
    assert audit.doubtful_from() == 0


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3])
def test_the_interval_covers_at_every_look(rate: float) -> None:
    missed = 0
    for seed in range(RUNS):
        rng, audit, ever = np.random.default_rng(seed), Audit(0.01), False
        for number in range(200):
            audit.add(error=bool(rng.random() < rate))
            if number % 10 == 0:
                low, high = audit.interval()
                assert 0.0 <= low <= audit.errors / audit.count <= high <= 1.0
                ever = ever or not low <= rate <= high
        missed += ever
    assert missed <= MOST


def test_nothing_is_known_without_an_audit() -> None:
    assert Audit(0.01).interval() == (0.0, 1.0)
