"""How near a picture is to the threshold after each model that was run, as a number that stages share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.criteria import Criteria, WeightedReader
from clipmod_cli.judge.readers import own_scores, read_all
from clipmod_cli.judge.scoring import combine
from clipmod_cli.types import Evidence, Seen

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The models after which a picture may exit: screens, then all members but the last.

    Attributes:
        criteria: of the ensemble, with the screens.
        screens: by name, how a screen alone would judge by the same policy.
        names: of all stages, in the order in which they are run.
    """

    criteria: Criteria
    screens: Mapping[str, Criteria] = field(init=False)
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Make the screens ready to judge alone."""
        alone = {one.name: replace(self.criteria, judges=[one], screens=()) for one in self.criteria.screens}
        object.__setattr__(self, "screens", alone)
        members = [member.name for member in self.criteria.judges]
        object.__setattr__(self, "names", (*self.screens, *members[:-1]))

    def scores(self, stage: str, seen: Mapping[str, Sequence[Seen]]) -> Floats:
        """Return `(n,)`, how near each view is to the threshold: 0 is farthest; at infinity no view exits.

        Infinite is a score at the threshold or in its review margin, one of members that disagree, and one
        of which no category has most of the labels.

        Args:
            stage: one of `names`.
            seen: by model, its evidence of each view; of this stage and all before it that count.
        """
        criteria = self.screens.get(stage, self.criteria)
        names = [member.name for member in criteria.judges]
        return nearness(criteria, criteria.judges[: names.index(stage) + 1], seen)

    def of_views(self, views: Sequence[Evidence]) -> Floats:
        """Return the scores of each view after each stage that was run on it, `(views, stages)`.

        A stage that was not run has an infinite score.
        """
        values = np.full((len(views), len(self.names)), np.inf)
        for at, view in enumerate(views):
            seen = {name: [one] for name, one in view.seen.items()}
            for number, stage in enumerate(self.names):
                if stage in seen:
                    values[at, number] = self.scores(stage, seen)[0]
        return values


def nearness(
    criteria: Criteria, asked: Sequence[WeightedReader], seen: Mapping[str, Sequence[Seen]]
) -> Floats:
    """Return `Stages.scores` by these members of the criteria."""
    shares = np.stack([read_all(member.reader, seen[member.name]) for member in asked])
    own = None
    if criteria.category_thresholds:
        own = np.stack(
            [_own(member, seen[member.name], each) for member, each in zip(asked, shares, strict=True)]
        )
    weights = np.array([member.weight for member in asked])
    scores = combine(shares, weights, criteria, own=own)
    limits = [(scores.unsafe, criteria.threshold, criteria.policy.review_band(criteria.threshold))]
    limits += [(scores.own[:, one.index], one.threshold, one.band) for one in criteria.category_thresholds]
    near = np.zeros(shares.shape[1])
    for values, threshold, band in limits:
        lowest = threshold if band is None else band[0]
        near = np.maximum(near, values / lowest if lowest > 0.0 else np.inf)
    near[scores.agreement < criteria.policy.agreement_threshold] = np.inf
    for member in asked:
        near[[member.is_mostly_unmapped(one) for one in seen[member.name]]] = np.inf
    return np.where(near < 1.0, near, np.inf)  # also what is not finite


def _own(member: WeightedReader, seen: Sequence[Seen], shares: Floats) -> Floats:
    return np.stack([own_scores(member.reader, one, row) for one, row in zip(seen, shares, strict=True)])
