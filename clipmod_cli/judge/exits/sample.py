"""Calibration: from pictures that all models were run on to the rule by which further ones exit early.

Learn-then-Test (Angelopoulos et al. 2021; for early exit arXiv 2405.20915). The rules are a family with one
parameter, the share of views that exit after a stage alone. One part of the sample only gives this family
its scale, the other tests its members from strict to lax, each against the hypothesis that more than the
stated share of pictures would be errors, and stops at the first that stands. An error is a picture that all
models together call NSFW and that exits early. No label is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.exits.audit import DELTA

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

SCALE_EVERY: Final = 6
"""Each so many pictures one gives the scale, and the others test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRule:
    """By which score after which stage a view exits.

    Attributes:
        highest: by stage, the highest score with which a view exits; stages that are not in it are not
            run (screens), or no view exits after them.
        cost: the expected share of the work of running all models, 0..1.
    """

    highest: Mapping[str, float]
    cost: float

    def exits(self, scores: Floats, stages: Sequence[str]) -> Booleans:
        """Return, for scores `(views, stages)`, which views exit at some stage, `(views,)`."""
        limits = np.array([self.highest.get(stage, -np.inf) for stage in stages])
        return np.asarray((scores <= limits).any(axis=1))


@dataclass(slots=True, kw_only=True)
class Sample:
    """Pictures that all models were run on.

    Attributes:
        stages: the names of the stages, and `screens` how many of the first of these may be left out.
        risk: the share of pictures that may be errors, 0..1.
        count: of all pictures.
        scale: the scores `(views, stages)` of each picture that gives the scale.
        flagged: the same of pictures that test, only of views that are NSFW, if there are any.
    """

    stages: Sequence[str]
    screens: int
    risk: float
    count: int = 0
    scale: list[Floats] = field(default_factory=list)
    flagged: list[Floats] = field(default_factory=list)

    @property
    def tested(self) -> int:
        """The pictures that test."""
        return self.count - len(self.scale)

    @property
    def needed(self) -> int:
        """The pictures that have to be in the sample before a rule can be found."""
        tested = math.ceil(math.log(self._delta) / math.log1p(-self.risk))
        return math.ceil(tested * SCALE_EVERY / (SCALE_EVERY - 1)) + 1

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is needed."""
        return self.count >= self.needed

    def add(self, scores: Floats, flagged: Booleans) -> None:
        """Add a picture: scores `(views, stages)`, and which views all models call NSFW."""
        if self.count % SCALE_EVERY == 0:
            self.scale.append(scores)
        elif flagged.any():
            self.flagged.append(scores[flagged])
        self.count += 1

    def forget(self) -> None:
        """Keep the count alone: once a rule was found the scores are not used again."""
        self.scale.clear()
        self.flagged.clear()

    def rule(self, costs: Sequence[float], rest: float) -> ExitRule | None:
        """Return the rule with the least expected work that is within the risk; None if none is.

        Args:
            costs: of each stage, for one view, in any unit.
            rest: of all models after the last stage.
        """
        found = [self._rule_of(used, costs, rest) for used in self._choices()]
        return min((one for one in found if one is not None), key=lambda one: one.cost, default=None)

    def _choices(self) -> Iterator[tuple[int, ...]]:
        """Yield the numbers of the stages that may be used together: any screens, and all members."""
        members = range(self.screens, len(self.stages))
        for count in range(self.screens + 1):
            for screens in combinations(range(self.screens), count):
                yield (*screens, *members)

    @property
    def _delta(self) -> float:
        return DELTA / float(2**self.screens)  # one test for each choice

    def _rule_of(self, used: Sequence[int], costs: Sequence[float], rest: float) -> ExitRule | None:
        allowed = most_errors(self.tested, self.risk, self._delta)
        if allowed is None or not self.scale or not used:
            return None
        scale = np.concatenate(self.scale)[:, list(used)]
        ordered = np.sort(scale, axis=0)
        # if so many views of the scale exit, each of these pictures would be an error
        errors_from = sorted(_exits_from(one[:, list(used)], ordered) for one in self.flagged)
        most = int(min([len(ordered), *(one - 1 for one in errors_from[allowed : allowed + 1])]))
        if not most:
            return None
        highest = np.where(np.isfinite(ordered), ordered, -np.inf)[:most].max(axis=0)
        exits = scale <= highest
        cost, reached = 0.0, np.ones(len(scale), bool)
        for column, number in enumerate(used):
            cost += costs[number] * float(reached.mean())
            reached &= ~exits[:, column]
        all_models = sum(costs[self.screens :]) + rest
        cost = (cost + rest * float(reached.mean())) / all_models
        if not exits.any() or cost >= 1.0:
            return None
        pairs = zip(used, highest.tolist(), strict=True)
        limits = {self.stages[number]: value for number, value in pairs if math.isfinite(value)}
        return ExitRule(highest=limits, cost=cost)


def most_errors(tested: int, risk: float, delta: float) -> int | None:
    """Return how many errors of `tested` pictures still reject a rate over `risk`; None if not even none."""
    term = math.exp(tested * math.log1p(-risk))
    total, errors = term, 0
    if total > delta:
        return None
    while True:
        term *= (tested - errors) / (errors + 1) * risk / (1.0 - risk)
        total += term
        if total > delta:
            return errors
        errors += 1


def _exits_from(scores: Floats, ordered: Floats) -> float:
    """Return how many views of the scale exit after one stage when all these flagged views would."""
    below = [np.searchsorted(column, mine) for column, mine in zip(ordered.T, scores.T, strict=True)]
    counts = np.stack(below, axis=1) + 1.0
    counts[~np.isfinite(scores)] = np.inf
    return float(counts.min(axis=1).max())
