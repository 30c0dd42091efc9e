"""Learns the head of one model: logistic regression with an L2 penalty on embeddings of labelled inputs.

An input is judged by its worst view, so it is of the category where one of its views is. Of a negative all
views are examples. Of a positive the label does not say which view shows the category: at first all of them
count, then the one that the head itself finds most likely, until the choice stays the same (multiple-instance
learning; Andrews, Tsochantaridis and Hofmann 2003).

Positives and negatives have the same weight in all, however many there are of each: 0.5 is where a picture
would be of the category as likely as not if half of all pictures were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from clipmod_cli.evaluate.heads.examples import Indices, Rows
from clipmod_cli.evaluate.intervals import Flags, Floats

PENALTIES: Final = (1.0, 10.0, 100.0, 1000.0)
"""Inverse strengths of the L2 penalty: embeddings have unit length, so weights must be large."""
INNER_FOLDS: Final = 3
ROUNDS: Final = 3
"""Choices of views, at most."""
LEAST_RIGHT: Final = 1e-9
"""A probability that the loss is bounded by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntHead:
    """Weights `(d,)` and bias of one model; `c` is the inverse strength of the penalty."""

    weights: Floats
    bias: float
    c: float

    def probabilities(self, rows: Rows) -> Floats:
        """Return the probability of the category for each embedding `(n, d)`, 0..1 `(n,)`."""
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * (rows @ self.weights + self.bias)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bags:
    """The embeddings of labelled inputs by one model, a bag of views each.

    Attributes:
        rows: of all views, input by input, `(views, d)`.
        starts: where each input's views begin, `(n,)`.
        positive: `(n,)`.
        group: of near-duplicates, `(n,)`.
    """

    rows: Rows
    starts: Indices
    positive: Flags
    group: Indices

    @property
    def counts(self) -> Indices:
        """How many views each input has, `(n,)`."""
        return np.diff(self.starts, append=len(self.rows))

    def among(self, chosen: Indices) -> Bags:
        """Return the bags of some inputs, by their numbers."""
        counts = self.counts[chosen]
        starts = np.cumsum(counts) - counts
        return Bags(
            rows=self.rows[rows_of(self.starts, self.counts, chosen)],
            starts=starts,
            positive=self.positive[chosen],
            group=self.group[chosen],
        )


def rows_of(starts: Indices, counts: Indices, chosen: Indices) -> Indices:
    """Return the numbers of the rows of some inputs, input by input."""
    wanted = counts[chosen]
    within = np.arange(int(wanted.sum())) - np.repeat(np.cumsum(wanted) - wanted, wanted)
    return np.asarray(np.repeat(starts[chosen], wanted) + within, dtype=np.intp)


def split(positive: Flags, group: Indices, folds: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield the inputs to learn from and to measure on, `folds` times; near-duplicates are on one side.

    Where there are at least as many groups of positives and of negatives as folds, each fold has both.
    """
    fold_of = np.zeros(int(group.max()) + 1, dtype=np.intp)
    for chosen in groups_of(positive, group):
        sizes = np.array([np.count_nonzero(group == one) for one in chosen])
        load = np.zeros(folds)
        for number in np.argsort(-sizes, kind="stable"):
            fold = int(np.argmin(load))
            fold_of[chosen[number]] = fold
            load[fold] += sizes[number]
    folded = fold_of[group]
    for fold in range(folds):
        yield np.flatnonzero(folded != fold), np.flatnonzero(folded == fold)


def groups_of(positive: Flags, group: Indices) -> tuple[Indices, Indices]:
    """Return the groups that hold a positive, and the others, in the order of their first inputs."""
    distinct, first = np.unique(group, return_index=True)
    ordered = distinct[np.argsort(first)]
    has_positive = np.isin(ordered, group[positive])
    return ordered[has_positive], ordered[~has_positive]


def learn(bags: Bags) -> LearntHead:
    """Return the head with the penalty that judges inputs best which it was not learnt from."""
    reduced, back = _reduced(bags)
    losses = np.zeros((len(PENALTIES), len(bags.positive)))
    for learnt_from, held_out in split(bags.positive, bags.group, INNER_FOLDS):
        learner, others = _Learner(reduced.among(learnt_from)), reduced.among(held_out)
        for number, c in enumerate(PENALTIES):
            losses[number, held_out] = _losses(learner.learn(c), others)
    loss = losses[:, bags.positive].mean(axis=1) + losses[:, ~bags.positive].mean(axis=1)
    found = _Learner(reduced).learn(PENALTIES[int(np.argmin(loss))])
    return LearntHead(weights=back @ found.weights, bias=found.bias, c=found.c)


def _reduced(bags: Bags) -> tuple[Bags, Rows]:
    """Return the same with no more numbers a row than there are rows, and how weights are brought back.

    Turning the axes changes no penalty and no score, and there are fewer numbers to fit.
    """
    count, size = bags.rows.shape
    if count >= size:
        return bags, np.eye(size)
    axes, turned = np.linalg.qr(bags.rows.T)
    return Bags(rows=turned.T, starts=bags.starts, positive=bags.positive, group=bags.group), axes


def _losses(head: LearntHead, bags: Bags) -> Floats:
    """Return the logarithmic loss of a head on each input, `(n,)`."""
    scores = np.maximum.reduceat(head.probabilities(bags.rows), bags.starts)
    right = np.where(bags.positive, scores, 1 - scores)
    return np.asarray(-np.log(np.maximum(right, LEAST_RIGHT)))


class _Learner:
    """Learns heads from the same inputs; each fit begins where the last one ended."""

    def __init__(self, bags: Bags) -> None:
        from sklearn.linear_model import LogisticRegression

        self.bags, self.counts = bags, bags.counts
        self.centre = bags.rows.mean(axis=0)  # about it the fit needs fewer steps
        self.centred = bags.rows - self.centre
        self.labels = np.repeat(bags.positive, self.counts)
        halves = np.where(self.labels, bags.positive.sum(), (~bags.positive).sum())
        self.balance = len(bags.positive) / (2 * halves)
        self.model = LogisticRegression(solver="lbfgs", max_iter=5_000, warm_start=True)

    def learn(self, c: float) -> LearntHead:
        """Return the head with this inverse strength of the penalty."""
        shares = np.repeat(1 / self.counts, self.counts)
        head = self._fit(shares, c)
        several = np.flatnonzero(self.bags.positive & (self.counts > 1))
        for _ in range(ROUNDS if len(several) else 0):
            chosen = self._with_best_views(shares, head, several)
            if (chosen == shares).all():
                break
            shares = chosen
            head = self._fit(shares, c)
        return head

    def _with_best_views(self, shares: Floats, head: LearntHead, inputs: Indices) -> Floats:
        """Return the shares where of each of these inputs the view counts that the head finds most likely."""
        chosen = shares.copy()
        scores = head.probabilities(self.bags.rows)
        for number in inputs:
            start = int(self.bags.starts[number])
            views = slice(start, start + int(self.counts[number]))
            chosen[views] = 0.0
            chosen[start + int(np.argmax(scores[views]))] = 1.0
        return chosen

    def _fit(self, shares: Floats, c: float) -> LearntHead:
        """Return the head that fits best where each row counts its share; one of 0 is left out."""
        used = shares > 0
        weight = (shares * self.balance)[used]
        # the bias is not penalised
        self.model.set_params(C=c).fit(self.centred[used], self.labels[used], sample_weight=weight)
        weights = self.model.coef_[0].copy()
        return LearntHead(weights=weights, bias=float(self.model.intercept_[0] - self.centre @ weights), c=c)
