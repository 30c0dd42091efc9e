"""A policy made ready for the models that judge by it: what each one's view says of each category.

Pure arithmetic on arrays; knows no model's library. The formulas are those that the
documentation of policies gives (docs/policies.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.policy import Policy
from clipmod_cli.types import Detections, Embedding, LabelScores, Seen

Probabilities = NDArray[np.float64]


class Reader(Protocol):
    """Turns what one model saw into probabilities over the policy's categories."""

    def read(self, seen: Seen) -> Probabilities:
        """Return `(categories,)`, summing to 1; not finite where nothing can be said."""
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

    def read(self, seen: Seen) -> Probabilities:
        """Return the softmax over the categories, as in CLIP's zero-shot recipe."""
        if not isinstance(seen, Embedding):
            raise TypeError(f"a text-image model gives embeddings, not {type(seen).__name__}")
        logits = self.scale * (self.vectors.astype(np.float64) @ seen.vector.astype(np.float64))
        powers = np.exp(logits - np.max(logits))
        shares = np.zeros(self.total)
        shares[list(self.visible)] = powers / powers.sum()
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReader:
    """For classifiers: the sum of each category's mapped labels, renormalised."""

    labels: Sequence[frozenset[str]]

    def read(self, seen: Seen) -> Probabilities:
        """Return the shares; not finite if no mapped label has any score."""
        if not isinstance(seen, LabelScores):
            raise TypeError(f"a classifier gives label scores, not {type(seen).__name__}")
        sums = np.array([sum(seen.scores[label] for label in mapped) for mapped in self.labels])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(sums / sums.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorReader:
    """For detectors: the most severe category takes its highest score first.

    Attributes:
        labels: mapped labels by category, in the policy's order (mild to severe).
        order: category indices: UNSAFE from the last listed to the first, then SAFE likewise.
        rest: the index of the `otherwise` category, which takes what is left of 1.
    """

    labels: Sequence[frozenset[str]]
    order: Sequence[int]
    rest: int

    def read(self, seen: Seen) -> Probabilities:
        """Return a distribution in which the most severe category comes first."""
        if not isinstance(seen, Detections):
            raise TypeError(f"a detector gives detections, not {type(seen).__name__}")
        shares = np.zeros(len(self.labels))
        left = 1.0
        for index in self.order:
            highest = max((d.score for d in seen.found if d.label in self.labels[index]), default=0.0)
            shares[index] = min(highest, left)
            left -= shares[index]
        shares[self.rest] += left
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """One member of the ensemble as the judging stage sees it."""

    name: str
    weight: float
    reader: Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """All that judging needs: no model, no file, no network.

    Attributes:
        unseen: UNSAFE categories that some member cannot see (only with `--allow-partial`).
        degraded: less than the ensemble judges.
    """

    policy: Policy
    threshold: float
    judges: Sequence[Judge]
    unseen: Sequence[str] = ()
    degraded: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The category names, in the policy's order."""
        return tuple(c.name for c in self.policy.categories)


def severity_order(policy: Policy) -> tuple[int, ...]:
    """Return category indices, UNSAFE from the last listed to the first, then SAFE likewise."""
    backwards = list(reversed(list(enumerate(policy.categories))))
    return tuple(i for safety in ("UNSAFE", "SAFE") for i, c in backwards if c.safety == safety)


def mapped_labels(policy: Policy, spec: str) -> tuple[frozenset[str], ...]:
    """Return, for each category, the labels of the model `spec` that count as it."""
    return tuple(frozenset(c.labels.get(spec, ())) for c in policy.categories)


def categories_with_prompts(policy: Policy) -> tuple[int, ...]:
    """Return the indices of the categories that a text-image model can see."""
    return tuple(i for i, c in enumerate(policy.categories) if c.prompts)


def mean_vectors(embeddings: Mapping[str, NDArray[np.float32]], policy: Policy) -> NDArray[np.float32]:
    """Return the vector of each category that has prompts, unit length, float32 `(visible, d)`.

    It is the mean over all its prompts in all templates of the normalised text embeddings,
    normalised again: open_clip's zero-shot recipe (`build_zero_shot_classifier`).

    Args:
        embeddings: by text (a prompt in a template), unit length `(d,)`.
        policy: whose categories they describe.
    """
    rows = []
    for index in categories_with_prompts(policy):
        texts = policy.texts_of(policy.categories[index])
        mean = np.mean([embeddings[text] for text in texts], axis=0)
        rows.append(mean / np.linalg.norm(mean))
    return np.asarray(rows, dtype=np.float32)
