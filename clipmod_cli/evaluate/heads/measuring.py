"""How good heads are on inputs that they were not learnt from, beside prompts on the same labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.heads.examples import HeadExamples
from clipmod_cli.evaluate.heads.learning import (
    INNER_FOLDS,
    Bags,
    LearntHead,
    groups_of,
    learn,
    rows_of,
    split,
)
from clipmod_cli.evaluate.intervals import (
    Estimate,
    Flags,
    Floats,
    Ranking,
    areas,
    average_precision,
    interval_of,
    resamples,
)
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.readers import TextReader

MOST_FOLDS: Final = 5
LEAST_FOLDS: Final = INNER_FOLDS + 1
"""Then each part to learn from has enough different pictures of both kinds to be divided once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredInputs:
    """How likely inputs are of the category, 0..1 `(n,)`, by all models together and by each."""

    together: Floats
    by_model: Mapping[str, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtHeads:
    """Heads by model, and how they score the inputs when these are held out."""

    heads: Mapping[str, LearntHead]
    held_out: ScoredInputs
    folds: int


def teach(examples: HeadExamples, weights: Mapping[str, float]) -> TaughtHeads:
    """Return a head for each model, learnt from all examples, and their cross-validated scores.

    In each fold all is chosen again, the penalty too.

    Args:
        examples: the labelled inputs.
        weights: of the models in the ensemble.

    Raises:
        UsageError: there are too few different pictures.
    """
    from threadpoolctl import threadpool_limits  # of scikit-learn

    kinds = groups_of(examples.positive, examples.group)
    folds = min(MOST_FOLDS, *map(len, kinds))
    if folds < LEAST_FOLDS:
        counts = int(examples.positive.sum()), int((~examples.positive).sum())
        raise UsageError(
            f"the {counts[0]} inputs that are {examples.category} are {len(kinds[0])} different pictures, the"
            f" {counts[1]} others {len(kinds[1])} (near-duplicates count once): cross-validation needs "
            f"{LEAST_FOLDS} of each"
        )
    bags = {
        name: Bags(rows=rows, starts=examples.starts, positive=examples.positive, group=examples.group)
        for name, rows in examples.rows.items()
    }
    by_view = {name: np.zeros(len(rows)) for name, rows in examples.rows.items()}
    # the products are small: threads of the library would wait for each other, above all on a busy machine
    with threadpool_limits(1):
        for learnt_from, held_out in split(examples.positive, examples.group, folds):
            for name, one in bags.items():
                head = learn(one.among(learnt_from))
                places = rows_of(one.starts, one.counts, held_out)
                by_view[name][places] = head.probabilities(one.rows[places])
        heads = {name: learn(one) for name, one in bags.items()}
    return TaughtHeads(heads=heads, held_out=_scored(examples, by_view, weights), folds=folds)


def by_prompts(examples: HeadExamples, criteria: Criteria) -> ScoredInputs:
    """Return how a policy's prompts score the inputs.

    Args:
        examples: the labelled inputs.
        criteria: the policy prepared for their models; the category has prompts.
    """
    index = criteria.names.index(examples.category)
    by_view: dict[str, Floats] = {}
    for judge in criteria.judges:
        if not isinstance(judge.reader, TextReader):
            raise TypeError(f"{judge.name} does not read prompts")
        by_view[judge.name] = judge.reader.read_vectors(examples.rows[judge.name])[:, index]
    return _scored(examples, by_view, {judge.name: judge.weight for judge in criteria.judges})


def _scored(
    examples: HeadExamples, by_view: Mapping[str, Floats], weights: Mapping[str, float]
) -> ScoredInputs:
    """Return scores of inputs from those of their views: of all models together, then the highest."""
    total = sum(weights[name] for name in by_view)
    together = np.sum([weights[name] / total * scores for name, scores in by_view.items()], axis=0)
    return ScoredInputs(
        together=np.maximum.reduceat(together, examples.starts),
        by_model={name: np.maximum.reduceat(scores, examples.starts) for name, scores in by_view.items()},
    )


def precision_of(positive: Flags, scores: Floats) -> Estimate:
    """Return the average precision of scores with its bootstrap interval."""
    return areas(positive, scores)[1]


def precision_gained(positive: Flags, scores: Floats, others: Floats) -> Estimate:
    """Return by how much the average precision of scores exceeds that of others, by paired bootstrap."""
    rankings: Sequence[Ranking] = [Ranking.of(positive, one) for one in (scores, others)]

    def measure(times: Floats) -> float:
        ours, theirs = (average_precision(*ranking.hits(times)) for ranking in rankings)
        return ours - theirs

    low, high = interval_of(np.array([measure(times) for times in resamples(positive)]))
    value = measure(np.ones(len(positive)))
    return Estimate(value=value, low=low, high=high, n=len(positive))
