"""A sequential test of whether the error rate of early exit is over the stated risk.

All models are run on a random share of the pictures that could exit early. Each of these is an
error or none. The evidence that errors are more frequent than the risk is a test martingale: a mixture of
likelihood ratios of higher rates that begin at each picture, so that a change late in a run is seen as well.
If the rate is within the risk, it ever reaches 1 / `DELTA` with a probability of at most `DELTA`, however
often it is looked at (Ville's inequality; Ramdas et al., Game-theoretic statistics and safe anytime-valid
inference, 2023).
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
HIGHER: Final = (2.0, 4.0, 10.0, 30.0, 100.0, 300.0)
"""The rates tested against, as multiples of the risk."""
HIGHEST: Final = 0.5


@dataclass(slots=True)
class Audit:
    """The audited pictures so far.

    Attributes:
        risk: the share of pictures that may be errors, 0..1.
        count: of audited pictures.
        errors: of these.
        epoch: the number of audits without an error after which the evidence did not point to a rate over the
            risk.
        broken: the rate is over the risk; it stays so.
        begun: for each higher rate, the evidence of all pictures from which it may have begun.
    """

    risk: float
    count: int = 0
    errors: int = 0
    epoch: int = 0
    broken: bool = False
    begun: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start without evidence."""
        self.begun = self.begun or [0.0] * len(_rates(self.risk))

    def add(self, *, error: bool) -> None:
        """Count an audited picture."""
        self.count += 1
        self.errors += error
        start = 1.0 / self.count - 1.0 / (self.count + 1)  # these sum to 1
        ratios = [(rate / self.risk if error else (1 - rate) / (1 - self.risk)) for rate in _rates(self.risk)]
        self.begun = [(one + start) * ratio for one, ratio in zip(self.begun, ratios, strict=True)]
        evidence = sum(self.begun) / len(self.begun) + 1.0 / (self.count + 1)
        self.broken = self.broken or evidence >= 1.0 / DELTA
        if not (error or self.broken) and evidence <= 1.0:
            self.epoch += 1

    def interval(self) -> tuple[float, float]:
        """Return the rates of errors that agree with all looks so far, at 95 %, 0..1.

        From the mixture of all rates against each (Robbins 1970): valid at any time.
        """
        if not self.count:
            return 0.0, 1.0
        right, wrong = self.count - self.errors, self.errors
        mixture = (
            math.lgamma(wrong + 0.5)
            + math.lgamma(right + 0.5)
            - math.lgamma(self.count + 1)
            - math.log(math.pi)
        )

        def agrees(rate: float) -> bool:
            likelihood = _times_log(wrong, rate) + _times_log(right, 1.0 - rate)
            return mixture - likelihood < -math.log(DELTA)

        middle = wrong / self.count
        return _edge(middle, 0.0, agrees), _edge(middle, 1.0, agrees)


@cache
def _rates(risk: float) -> tuple[float, ...]:
    """Return the higher rates that are tested against."""
    return tuple(sorted({min(risk * times, max(HIGHEST, risk)) for times in HIGHER}))


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
