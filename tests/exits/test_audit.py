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


@pytest.mark.parametrize(("risk", "rate", "within"), [(0.001, 0.1, 150), (0.01, 0.3, 100), (0.01, 1.0, 8)])
def test_a_change_half_way_is_noticed(risk: float, rate: float, within: int) -> None:
    runs = [
        audited(np.random.default_rng(seed), risk, (1000, risk / 5), (within, rate)) for seed in range(50)
    ]
    assert sum(audit.broken for audit in runs) >= 45


def test_what_is_broken_stays_so_and_its_epoch_is_from_before_the_first_doubt() -> None:
    audit = audited(np.random.default_rng(0), 0.01, (100, 0.0))
    assert (audit.epoch, audit.broken) == (100, False)
    while not audit.broken:
        audit.add(error=True)
    epoch = audit.epoch
    assert epoch == 100
    for _ in range(5000):
        audit.add(error=False)
    assert audit.broken
    assert audit.epoch == epoch


def test_a_doubt_that_passes_lets_epochs_go_on() -> None:
    audit = audited(np.random.default_rng(0), 0.01, (300, 0.0))
    audit.add(error=True)
    for _ in range(600):
        audit.add(error=False)
    assert not audit.broken
    assert audit.epoch > 600


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
