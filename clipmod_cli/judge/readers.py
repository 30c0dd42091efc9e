"""Evidence of one model to probabilities over a policy's categories: one reader for each kind of model.

Formulas: docs/policies.md. Arithmetic on arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.policy.values import DIGITS
from clipmod_cli.types import Detections, Embedding, LabelScores, Seen

Probabilities = NDArray[np.float64]

MOST_UNMAPPED = 0.5
"""A classifier that gives more of its score than this to labels without a category says nothing of them."""

HALF: Final = 0.5
"""Under independent scoring, what a category has that fits as well as the best of the SAFE ones."""


class Reader(Protocol):
    """Turns the evidence of one model into probabilities over the policy's categories."""

    def read(self, seen: Seen) -> Probabilities:
        """Return `(categories,)`, summing to 1 under softmax scoring; not finite if there is no score."""
        ...


class VectorReader:
    """For text-image models: from embeddings."""

    __slots__ = ()

    @property
    def has_own_scores(self) -> bool:
        """Whether thresholds of categories are compared with something else than the probabilities."""
        return False

    def read(self, seen: Seen) -> Probabilities:
        """Return the result of `read_vectors` for one."""
        shares: Probabilities = self.read_vectors(_vector_of(seen)[np.newaxis])[0]
        return shares

    def read_all(self, seen: Sequence[Seen]) -> Probabilities:
        """Return the result of `read` for each, `(n, categories)`."""
        return self.read_vectors(np.stack([_vector_of(each) for each in seen]))

    def read_vectors(self, vectors: NDArray[np.floating[Any]]) -> Probabilities:
        """Return the probabilities of each embedding of `(n, d)`, `(n, categories)`."""
        raise NotImplementedError

    def read_both(self, vectors: NDArray[np.floating[Any]]) -> tuple[Probabilities, Probabilities]:
        """Return the results of `read_vectors` and `own_scores` for each embedding, `(n, categories)`."""
        shares = self.read_vectors(vectors)
        return shares, shares

    def own_scores(self, seen: Seen) -> Probabilities:
        """Return what thresholds of categories are compared with."""
        own: Probabilities = self.read_both(_vector_of(seen)[np.newaxis])[1][0]
        return own


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReader(VectorReader):
    """Softmax of the scaled cosines with each category's vector, as in CLIP's zero-shot recipe.

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

    def read_vectors(self, vectors: NDArray[np.floating[Any]]) -> Probabilities:
        """Return the softmax over the categories for each embedding."""
        logits = self.scale * (vectors.astype(np.float64) @ self._columns)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = np.zeros((len(vectors), self.total))
        shares[:, self._places] = powers / powers.sum(axis=1, keepdims=True)
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTexts:
    """The vectors of a category's texts, unit length, float32 `(texts, d)`; `negatives` may have none."""

    prompts: NDArray[np.float32]
    negatives: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparingTextReader(VectorReader):
    """Independent scoring: a category's best prompt against the best of the SAFE prompts and its negatives.

    Attributes:
        texts: by category; those without prompts get 0.
        unsafe: by category, whether it is UNSAFE; a SAFE one has prompts.
        scale: exp(logit_scale) of the model.
    """

    texts: Sequence[ComparedTexts]
    unsafe: Sequence[bool]
    scale: float
    _columns: Probabilities = field(init=False, repr=False, compare=False)
    _starts: NDArray[np.intp] = field(init=False, repr=False, compare=False)
    _places: NDArray[np.intp] = field(init=False, repr=False, compare=False)
    _safe: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Convert the vectors once: a group of columns for each category, and for the negatives of each."""
        seen = [index for index, one in enumerate(self.texts) if len(one.prompts)]
        safe = [index for index in seen if not self.unsafe[index]]
        unsafe = [index for index in seen if self.unsafe[index]]
        neutral = self.texts[safe[0]].prompts[:1]  # in place of no negatives: is compared with already
        groups = [self.texts[index].prompts for index in (*safe, *unsafe)]
        groups += [self.texts[i].negatives if len(self.texts[i].negatives) else neutral for i in unsafe]
        starts = np.cumsum([0, *(len(group) for group in groups)])[:-1]
        object.__setattr__(self, "_columns", np.concatenate(groups).T.astype(np.float64))
        object.__setattr__(self, "_starts", starts.astype(np.intp))
        object.__setattr__(self, "_places", np.array([*safe, *unsafe], dtype=np.intp))
        object.__setattr__(self, "_safe", len(safe))

    def read_vectors(self, vectors: NDArray[np.floating[Any]]) -> Probabilities:
        """Return the result of each comparison: over 0.5 where the category's best prompt is the nearest."""
        best = np.maximum.reduceat(vectors.astype(np.float64) @ self._columns, self._starts, axis=1)
        safe, seen = self._safe, len(self._places)
        leads = best[:, :seen] - best[:, :safe].max(axis=1, keepdims=True)
        leads[:, safe:] = np.minimum(leads[:, safe:], best[:, safe:seen] - best[:, seen:])
        shares = np.zeros((len(vectors), len(self.texts)))
        shares[:, self._places] = _sigmoid(self.scale * leads)
        return shares


def _sigmoid(logits: Probabilities) -> Probabilities:
    with np.errstate(invalid="ignore"):  # what is not finite stays so
        return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))


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
        unsafe: by category, whether it is UNSAFE, under independent scoring; None under softmax scoring.
        counted: by category, the labels that its sum is of: each label once.
    """

    labels: Sequence[frozenset[str]]
    unmapped: frozenset[str] = frozenset()
    unsafe: Sequence[bool] | None = None
    counted: Sequence[frozenset[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Have each label count once."""
        object.__setattr__(self, "counted", mildest_only(self.labels))

    @property
    def has_undivided(self) -> bool:
        """Whether a label stands for several categories."""
        return tuple(self.labels) != self.counted

    @property
    def has_own_scores(self) -> bool:
        """Whether `own_scores` differ from the shares."""
        return self.has_undivided

    def read(self, seen: Seen) -> Probabilities:
        """Return the shares; not finite if no mapped label has any score."""
        shares: Probabilities = self._read(seen)[0][0]
        return shares

    def own_scores(self, seen: Seen) -> Probabilities:
        """Return as `read`, but each label in full for all its categories: they may sum to more than 1."""
        own: Probabilities = self._read(seen)[1][0]
        return own

    def read_sums(self, counted: Probabilities, full: Probabilities) -> tuple[Probabilities, Probabilities]:
        """Return the results of `read` and `own_scores` for rows of sums, all `(n, categories)`.

        Args:
            counted: the sums of `counted`.
            full: the sums of `labels`.
        """
        total = counted.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.unsafe is None:
                return counted / total, full / total
            safe = full[:, ~np.asarray(self.unsafe)].sum(axis=1, keepdims=True)
            shares = np.where(full > 0.0, full / (full + safe), total * 0.0 / total)
        return shares, shares

    def unmapped_share(self, seen: Seen) -> float:
        """Return which share of all scores the unmapped labels have, 0..1, rounded."""
        left = sum(seen.scores[label] for label in self.unmapped) if isinstance(seen, LabelScores) else 0.0
        return float(self.unmapped_shares(self._sums(seen)[np.newaxis], np.asarray([left]))[0])

    def unmapped_shares(self, counted: Probabilities, left: Probabilities) -> Probabilities:
        """Return the result of `unmapped_share` for rows of sums of `counted` and those of `unmapped`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.round(left / (counted.sum(axis=1) + left), DIGITS)
        return np.where(left > 0.0, share, 0.0)

    def _read(self, seen: Seen) -> tuple[Probabilities, Probabilities]:
        counted = self._sums(seen)[np.newaxis]
        full = _sums(self.labels, seen)[np.newaxis] if self.has_undivided else counted
        return self.read_sums(counted, full)

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
        unsafe: by category, whether it is UNSAFE, under independent scoring: then each of these has its
            highest score in full, and the SAFE ones share a half. None under softmax scoring.
    """

    labels: Sequence[frozenset[str]]
    order: Sequence[int]
    rest: int
    unsafe: Sequence[bool] | None = None

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
        apart = np.zeros(len(self.labels), np.bool_) if self.unsafe is None else np.asarray(self.unsafe)
        shares = np.zeros_like(highest)
        left = np.ones(len(highest))
        for index in (index for index in self.order if not apart[index]):
            shares[:, index] = np.minimum(highest[:, index], left)
            left = left - shares[:, index]
        shares[:, self.rest] += left
        if self.unsafe is None:
            return shares
        return np.where(apart, highest, shares * HALF)


def own_scores(reader: Reader, seen: Seen, shares: Probabilities) -> Probabilities:
    """Return what thresholds of single categories are compared with, 0..1 `(categories,)`.

    As the shares, but a classifier's label that stands for several categories counts in full for each, and so
    do the heads of several UNSAFE categories.
    """
    if isinstance(reader, LabelReader | VectorReader) and reader.has_own_scores:
        return reader.own_scores(seen)
    return shares


def has_own_scores(reader: Reader) -> bool:
    """Whether `own_scores` of this reader differ from its shares."""
    return isinstance(reader, LabelReader | VectorReader) and reader.has_own_scores


def unmapped_share(reader: Reader, seen: Seen) -> float | None:
    """Return the share of a classifier's scores that no category has, 0..1; None for other models."""
    return reader.unmapped_share(seen) if isinstance(reader, LabelReader) else None


def is_mostly_unmapped(share: float | None) -> bool:
    """Return whether the categories have so little of the scores that the picture needs review."""
    return share is not None and share > MOST_UNMAPPED


def read_all(reader: Reader, seen: Sequence[Seen]) -> Probabilities:
    """Return the result of `reader.read` for each, float64 `(n, categories)`."""
    if isinstance(reader, VectorReader):
        return reader.read_all(seen)
    return np.stack([reader.read(each) for each in seen])
