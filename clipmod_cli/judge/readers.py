"""Evidence of one model to probabilities over a policy's categories: one reader for each kind of model.

Formulas: docs/policies.md. Arithmetic on arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.policy.values import DIGITS
from clipmod_cli.types import Detections, Embedding, LabelScores, Seen

Probabilities = NDArray[np.float64]

MOST_UNMAPPED = 0.5
"""A classifier that gives more of its score than this to labels without a category says nothing of them."""


class Reader(Protocol):
    """Turns the evidence of one model into probabilities over the policy's categories."""

    def read(self, seen: Seen) -> Probabilities:
        """Return `(categories,)`, summing to 1; not finite if the evidence has no score."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReader:
    """For text-image models: softmax of the scaled cosines with each category's vector.

    Attributes:
        vectors: of the categories that have prompts, unit length, float32 `(visible, d)`.
        visible: their indices among the policy's categories; the others get 0.
        total: how many categories the policy has.
        scale: exp(logit_scale) of the model.
    """

    vectors: NDArray[np.float32]
    visible: Sequence[int]
    total: int
    scale: float
    _columns: Probabilities = field(init=False, repr=False, compare=False)
    _places: NDArray[np.intp] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Convert the vectors once."""
        object.__setattr__(self, "_columns", self.vectors.T.astype(np.float64))
        object.__setattr__(self, "_places", np.array(self.visible, dtype=np.intp))

    def read(self, seen: Seen) -> Probabilities:
        """Return the softmax over the categories, as in CLIP's zero-shot recipe."""
        shares: Probabilities = self.read_vectors(_vector_of(seen)[np.newaxis])[0]
        return shares

    def read_all(self, seen: Sequence[Seen]) -> Probabilities:
        """Return the result of `read` for each, `(n, categories)`."""
        return self.read_vectors(np.stack([_vector_of(each) for each in seen]))

    def read_vectors(self, vectors: NDArray[np.floating[Any]]) -> Probabilities:
        """Return the result of `read` for each embedding of `(n, d)`, `(n, categories)`."""
        logits = self.scale * (vectors.astype(np.float64) @ self._columns)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = np.zeros((len(vectors), self.total))
        shares[:, self._places] = powers / powers.sum(axis=1, keepdims=True)
        return shares


def _vector_of(seen: Seen) -> NDArray[np.float32]:
    if not isinstance(seen, Embedding):
        raise TypeError(f"a text-image model gives embeddings, not {type(seen).__name__}")
    return seen.vector


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReader:
    """For classifiers: the sum of each category's mapped labels, renormalised.

    Attributes:
        labels: mapped labels by category; one that the model does not divide is in several UNSAFE ones.
        unmapped: all other labels of the model.
        counted: by category, the labels that its sum is of: each label once.
    """

    labels: Sequence[frozenset[str]]
    unmapped: frozenset[str] = frozenset()
    counted: Sequence[frozenset[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Have each label count once."""
        object.__setattr__(self, "counted", mildest_only(self.labels))

    @property
    def has_undivided(self) -> bool:
        """Whether a label stands for several categories."""
        return tuple(self.labels) != self.counted

    def read(self, seen: Seen) -> Probabilities:
        """Return the shares; not finite if no mapped label has any score."""
        sums = self._sums(seen)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(sums / sums.sum())

    def unmapped_share(self, seen: Seen) -> float:
        """Return which share of all scores the unmapped labels have, 0..1, rounded."""
        mapped = float(self._sums(seen).sum())
        left = sum(seen.scores[label] for label in self.unmapped) if isinstance(seen, LabelScores) else 0.0
        return round(left / (mapped + left), DIGITS) if left else 0.0

    def own_scores(self, seen: Seen) -> Probabilities:
        """Return as `read`, but each label in full for all its categories: they may sum to more than 1."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(_sums(self.labels, seen) / self._sums(seen).sum())

    def _sums(self, seen: Seen) -> Probabilities:
        return _sums(self.counted, seen)


def _sums(labels: Sequence[frozenset[str]], seen: Seen) -> Probabilities:
    if not isinstance(seen, LabelScores):
        raise TypeError(f"a classifier gives label scores, not {type(seen).__name__}")
    return np.array([sum(seen.scores[label] for label in mapped) for mapped in labels], np.float64)


def mildest_only(labels: Sequence[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Return labels by category, each in the first of its categories only.

    A label of a classifier may stand for several UNSAFE categories that the model does not tell apart. It
    counts once for their side, and is named as the mildest of them: the classifier says no more than that.
    """
    placed: set[str] = set()
    divided = []
    for mapped in labels:
        divided.append(mapped - placed)
        placed |= mapped
    return tuple(divided)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorReader:
    """For detectors: the most severe category takes its highest score first.

    Attributes:
        labels: mapped labels by category, in the policy's order (mild to severe).
        order: category indices: UNSAFE from the last listed to the first, then SAFE likewise.
        rest: the index of the `otherwise` category, which takes the rest of 1.
    """

    labels: Sequence[frozenset[str]]
    order: Sequence[int]
    rest: int

    def read(self, seen: Seen) -> Probabilities:
        """Return a distribution in which the most severe category comes first."""
        if not isinstance(seen, Detections):
            raise TypeError(f"a detector gives detections, not {type(seen).__name__}")
        highest = [
            max((d.score for d in seen.found if d.label in labels), default=0.0) for labels in self.labels
        ]
        shares: Probabilities = self.read_highest(np.asarray([highest]))[0]
        return shares

    def read_highest(self, highest: Probabilities) -> Probabilities:
        """Return the distribution of each row of the categories' highest scores, both `(n, categories)`."""
        shares = np.zeros_like(highest)
        left = np.ones(len(highest))
        for index in self.order:
            shares[:, index] = np.minimum(highest[:, index], left)
            left = left - shares[:, index]
        shares[:, self.rest] += left
        return shares


def own_scores(reader: Reader, seen: Seen, shares: Probabilities) -> Probabilities:
    """Return what thresholds of single categories are compared with, 0..1 `(categories,)`.

    As the shares, but a classifier's label that stands for several categories counts in full for each.
    """
    return reader.own_scores(seen) if isinstance(reader, LabelReader) and reader.has_undivided else shares


def unmapped_share(reader: Reader, seen: Seen) -> float | None:
    """Return the share of a classifier's scores that no category has, 0..1; None for other models."""
    return reader.unmapped_share(seen) if isinstance(reader, LabelReader) else None


def is_mostly_unmapped(share: float | None) -> bool:
    """Return whether the categories have so little of the scores that the picture needs review."""
    return share is not None and share > MOST_UNMAPPED


def read_all(reader: Reader, seen: Sequence[Seen]) -> Probabilities:
    """Return the result of `reader.read` for each, float64 `(n, categories)`."""
    if isinstance(reader, TextReader):
        return reader.read_all(seen)
    return np.stack([reader.read(each) for each in seen])
