"""A sequential test of whether the error rate of early exit is over the stated risk.

All models are run on a random share of the pictures that could exit early. Each of these is an
error or none. The evidence that errors are more frequent than the risk is a test martingale: a mixture of
likelihood ratios of higher rates that begin at each picture, so that a change late in a run is seen as well.
If the rate is within the risk, it ever reaches 1 / `DELTA` with a probability of at most `DELTA`, however
often it is looked at (Ville's inequality; Ramdas et al., Game-theoretic statistics and safe anytime-valid
inference, 2023). The audits also date the change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

DELTA: Final = 0.05
"""The probability that a rule exceeds its risk, and that a rule within its risk is called broken."""
STEPS: Final = 60
"""Of a bisection: more digits than a float has."""
HIGHER: Final = (1.3, 2.0, 4.0, 10.0, 30.0, 100.0, 300.0)
"""The rates tested against, as multiples of the risk."""
HIGHEST: Final = 0.5
LEAST_LIKELY: Final = 6.0
"""In natural logarithms. Simulated at their break, runs of many rates had changed earlier than such a date in
2 % at most (`tests/exits/test_audit.py`)."""


@dataclass(slots=True)
class Audit:
    """The audited pictures so far.

    Attributes:
        risk: the share of pictures that may be errors, 0..1.
        count: of audited pictures.
        errors_at: by number, from 1, the audits that were errors; ascending.
        clean: the last audit after which the evidence did not point to a rate over the risk; 0 for none.
        broken: the rate is over the risk; it stays so.
        begun: for each higher rate, the evidence of all pictures from which it may have begun.
    """

    risk: float
    count: int = 0
    errors_at: list[int] = field(default_factory=list)
    clean: int = 0
    broken: bool = False
    begun: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start without evidence."""
        self.begun = self.begun or [0.0] * len(_rates(self.risk))

    @property
    def errors(self) -> int:
        """The audited pictures that were errors."""
        return len(self.errors_at)

    def add(self, *, error: bool) -> None:
        """Count an audited picture."""
        self.count += 1
        if error:
            self.errors_at.append(self.count)
        start = 1.0 / self.count - 1.0 / (self.count + 1)  # these sum to 1
        ratios = [(rate / self.risk if error else (1 - rate) / (1 - self.risk)) for rate in _rates(self.risk)]
        self.begun = [(one + start) * ratio for one, ratio in zip(self.begun, ratios, strict=True)]
        evidence = sum(self.begun) / len(self.begun) + 1.0 / (self.count + 1)
        self.broken = self.broken or evidence >= 1.0 / DELTA
        if not (error or self.broken) and evidence <= 1.0:
            self.clean = self.count

    def interval(self) -> tuple[float, float]:
        """Return the rates of errors that agree with all looks so far, at 95 %, 0..1.

        From the mixture of all rates against each (Robbins 1970): valid at any time.
        """
        if not self.count:
            return 0.0, 1.0
        mixture = (
            math.lgamma(self.errors + 0.5)
            + math.lgamma(self.count - self.errors + 0.5)
            - math.lgamma(self.count + 1)
            - math.log(math.pi)
        )

        def agrees(rate: float) -> bool:
            return mixture - _likelihood(self.errors, self.count, rate) < -math.log(DELTA)

        middle = self.errors / self.count
        return _edge(middle, 0.0, agrees), _edge(middle, 1.0, agrees)

    def doubtful_from(self) -> int:
        """Return after how many audits, at the earliest, the rate may have come to exceed the risk.

        That is the earliest change whose likelihood is at most `LEAST_LIKELY` below that of the likeliest
        one, and the last clean audit if that is earlier. A change to a rate hardly over the risk has no
        clear date: then this is near 0.
        """
        before, changes = 0, []
        is_error = frozenset(self.errors_at)
        for after in range(self.count):
            before += after in is_error
            changes.append(self._likelihood_of_change(before, after))
        least = max(changes, default=0.0) - LEAST_LIKELY
        return min(next((after for after, one in enumerate(changes) if one >= least), 0), self.clean)

    def _likelihood_of_change(self, before: int, after: int) -> float:
        """Return the highest log likelihood of a rate within the risk and, after an audit, one over it.

        Args:
            before: the errors until this audit.
            after: its number.
        """
        wrong, left = self.errors - before, self.count - after
        kept = min(before / after if after else 0.0, self.risk)
        exceeded = max(wrong / left, self.risk)
        return _likelihood(before, after, kept) + _likelihood(wrong, left, exceeded)


@cache
def _rates(risk: float) -> tuple[float, ...]:
    """Return the higher rates that are tested against."""
    return tuple(sorted({min(risk * times, max(HIGHEST, risk)) for times in HIGHER}))


def _likelihood(errors: int, count: int, rate: float) -> float:
    """Return the log likelihood of errors among audits at a rate."""
    return _times_log(errors, rate) + _times_log(count - errors, 1.0 - rate)


def _times_log(count: int, rate: float) -> float:
    if not count:
        return 0.0
    return count * math.log(rate) if rate > 0.0 else -math.inf


def _edge(inside: float, outside: float, agrees: Callable[[float], bool]) -> float:
    """Return the last rate that agrees, on the way from one that does to one that may not."""
    if agrees(outside):
        return outside
    for _ in range(STEPS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if agrees(middle) else (inside, middle)
    return outside
