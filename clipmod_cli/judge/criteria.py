"""A policy made ready for the models that judge by it: what each one's view says of each category.

Pure arithmetic on arrays; knows no model's library. The formulas are those that the
documentation of policies gives (docs/policies.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import SettingsError
from clipmod_cli.judge.certainty import Heard, Stakes, is_certain
from clipmod_cli.judge.policy import Policy
from clipmod_cli.models.specs import LEAST_WEIGHT
from clipmod_cli.types import Detections, Embedding, Frame, LabelScores, Seen

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
    _columns: Probabilities = field(init=False, repr=False, compare=False)
    _places: NDArray[np.intp] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Convert once what each picture needs."""
        object.__setattr__(self, "_columns", self.vectors.T.astype(np.float64))
        object.__setattr__(self, "_places", np.array(self.visible, dtype=np.intp))

    def read(self, seen: Seen) -> Probabilities:
        """Return the softmax over the categories, as in CLIP's zero-shot recipe."""
        shares: Probabilities = self._read(_vector_of(seen)[np.newaxis])[0]
        return shares

    def read_all(self, seen: Sequence[Seen]) -> Probabilities:
        """Return what `read` does for each of several, `(n, categories)`."""
        return self._read(np.stack([_vector_of(one) for one in seen]))

    def _read(self, vectors: NDArray[np.float32]) -> Probabilities:
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
        threshold: an unsafe score from here on is NSFW, 0..1.
        unseen: UNSAFE categories that some member cannot see (only with `--allow-partial`).
        degraded: less than the ensemble judges.
        names: of the categories, in the policy's order.
        unsafe: by category, whether it is UNSAFE.
        severity: `severity_order` of the policy.
    """

    policy: Policy
    threshold: float
    judges: Sequence[Judge]
    unseen: Sequence[str] = ()
    degraded: bool = False
    names: tuple[str, ...] = field(init=False, repr=False)
    unsafe: NDArray[np.bool_] = field(init=False, repr=False, compare=False)
    severity: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse numbers that judge nothing, and find out once what each picture needs.

        Raises:
            SettingsError: if the threshold is not within 0..1, or a member weighs next to nothing.
        """
        if not 0.0 <= self.threshold <= 1.0:  # nothing is over a NaN, and all would be safe
            raise SettingsError(f"the threshold is {self.threshold}; it must be from 0 to 1")
        for judge in self.judges:
            if not LEAST_WEIGHT <= judge.weight < np.inf:
                raise SettingsError(
                    f"{judge.name} has the weight {judge.weight}; it must be at least {LEAST_WEIGHT}, "
                    "and finite"
                )
        categories = self.policy.categories
        unsafe = np.array([c.safety == "UNSAFE" for c in categories], dtype=np.bool_)
        unsafe.setflags(write=False)
        object.__setattr__(self, "names", tuple(c.name for c in categories))
        object.__setattr__(self, "unsafe", unsafe)
        object.__setattr__(self, "severity", severity_order(self.policy))

    def decided(self, frames: Sequence[Frame], seen: Mapping[str, Sequence[Seen]]) -> NDArray[np.bool_]:
        """Return, for each frame, whether no member that was not asked can change the outcome any more.

        The outcome is the decision and whether a person has to look. Frames of animations and videos
        are never decided: which of them decides depends on all scores of all of them.

        Args:
            frames: what was looked at.
            seen: by member that was asked, what it saw in each of them; finite.
        """
        asked = [member for member in self.judges if member.name in seen]
        heard = Heard(
            shares=[_read_all(member.reader, seen[member.name]) for member in asked],
            weights=[member.weight for member in asked],
            left=sum(member.weight for member in self.judges if member.name not in seen),
        )
        stakes = Stakes(
            unsafe=self.unsafe,
            threshold=self.threshold,
            agreement=self.policy.agreement_threshold,
            band=self.policy.review_band,
        )
        stills = np.array([frame.media.kind == "image" for frame in frames])
        review = np.array([frame.media.truncated or bool(self.unseen) for frame in frames])
        return np.asarray(stills & is_certain(heard, stakes, review=review))


def _read_all(reader: Reader, seen: Sequence[Seen]) -> Probabilities:
    if isinstance(reader, TextReader):
        return reader.read_all(seen)
    return np.stack([reader.read(one) for one in seen])


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
