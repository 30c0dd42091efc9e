"""Members and weights: runs batches of frames through every model and gathers the evidence.

Knows no policy beyond preparing one; judging is left to `clipmod_cli.judging`. The models are
built and called by one thread.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clipmod_cli.criteria import (
    Criteria,
    DetectorReader,
    Judge,
    LabelReader,
    Reader,
    TextReader,
    categories_with_prompts,
    mapped_labels,
    mean_vectors,
    severity_order,
)
from clipmod_cli.errors import BlindModelError, ErrorCode
from clipmod_cli.models.seam import is_detector, is_text_image, labels_of
from clipmod_cli.policy import Policy, seen_categories, unseen_categories
from clipmod_cli.types import (
    Detections,
    Embedding,
    Evidence,
    Failure,
    Frame,
    LabelScores,
    Model,
    Seen,
    View,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A loaded model and its share of the ensemble's weight."""

    model: Model
    weight: float


@dataclass(frozen=True)
class Ensemble:
    """Models that look at the same frames; weights sum to 1.

    Attributes:
        dtype: the precision that the models run in, as `bfloat16`.
        batch_size: frames in one forward pass.
        degraded: this is less than the three-model ensemble that was wanted.
        stand_in: the member that is asked alone where another one fails at a frame; None has the
            frame fail.
    """

    members: Sequence[Member]
    dtype: str = "float32"
    batch_size: int = 8
    degraded: bool = False
    stand_in: str | None = None

    @property
    def views(self) -> tuple[View, ...]:
        """The geometries that the members want, each once."""
        return tuple(dict.fromkeys(member.model.view for member in self.members))

    @property
    def identity(self) -> str:
        """What identifies models, weights and precision: part of the `run_key`."""
        parts = [f"{m.model.spec}@{m.model.revision}={m.weight:.6f}" for m in self.members]
        return ",".join([*parts, self.dtype])

    def prepare(self, policy: Policy, *, threshold: float, allow_partial: bool = False) -> Criteria:
        """Return the policy made ready for these members; prompts are embedded here, once.

        Raises:
            BlindModelError: if a member cannot see an UNSAFE category and that is not allowed.
        """
        unseen = sorted(
            {
                name
                for m in self.members
                for name in _check_sight(m.model, policy, allow_partial=allow_partial)
            }
        )
        judges = [
            Judge(name=m.model.name, weight=m.weight, reader=_reader(m.model, policy)) for m in self.members
        ]
        return Criteria(
            policy=policy, threshold=threshold, judges=judges, unseen=unseen, degraded=self.degraded
        )

    def measure(self, batches: Iterable[Sequence[Frame | Failure]]) -> Iterator[Evidence | Failure]:
        """Yield the evidence for every frame, in order; failures pass through in their place."""
        for batch in batches:
            seen = iter(self._look([f for f in batch if isinstance(f, Frame)]))
            for one in batch:
                yield next(seen) if isinstance(one, Frame) else one

    def _look(self, frames: Sequence[Frame]) -> list[Evidence | Failure]:
        """Return what all members saw; a batch that raises is halved until the culprit is alone."""
        if not frames:
            return []
        try:
            return self._forward(frames)
        except Exception as e:
            if len(frames) == 1:
                log.debug("a forward pass failed", exc_info=True)
                return [self._ask_stand_in(frames[0]) or _failed(frames[0], e)]
        middle = len(frames) // 2
        return self._look(frames[:middle]) + self._look(frames[middle:])

    def _ask_stand_in(self, frame: Frame) -> Evidence | None:
        """Return what the member that stands in sees; None if there is none, or it fails too."""
        member = next((m for m in self.members if m.model.name == self.stand_in), None)
        if member is None:
            return None
        seen = next(Ensemble([member]).measure([[frame]]))
        return replace(seen, stand_in=True) if isinstance(seen, Evidence) else None

    def _forward(self, frames: Sequence[Frame]) -> list[Evidence | Failure]:
        seen: dict[str, Sequence[Seen]] = {}
        forward_ms: dict[str, float] = {}
        for member in self.members:
            begun = time.perf_counter()
            seen[member.model.name] = _look_with(member.model, frames)
            forward_ms[member.model.name] = (time.perf_counter() - begun) * 1000 / len(frames)
        return [
            _evidence(frame, {name: by_frame[i] for name, by_frame in seen.items()}, forward_ms)
            for i, frame in enumerate(frames)
        ]


def _look_with(model: Model, frames: Sequence[Frame]) -> Sequence[Seen]:
    """Return what a model sees in each frame; raises where it answers for more or fewer than it was asked."""
    seen = model.measure(frames)
    if len(seen) != len(frames):
        raise ValueError(f"{model.name} gave {len(seen)} results for {len(frames)} pictures")
    return seen


def fingerprint(*parts: str) -> str:
    """Return 16 hex digits that identify these parts together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _evidence(frame: Frame, seen: Mapping[str, Seen], forward_ms: Mapping[str, float]) -> Evidence | Failure:
    for name, one in seen.items():
        if not _is_finite(one):
            return Failure(
                item=frame.item,
                stage="measure",
                code="non_finite_score",
                message=f"{name} gave a result that is not a finite number",
                media=frame.media,
                last=frame.last,
            )
    return Evidence(
        item=frame.item,
        media=frame.media,
        number=frame.number,
        time_s=frame.time_s,
        last=frame.last,
        seen=seen,
        forward_ms=forward_ms,
    )


def _is_finite(seen: Seen) -> bool:
    match seen:
        case Embedding(vector=vector):
            return bool(np.all(np.isfinite(vector)))
        case LabelScores(scores=scores):
            return bool(np.all(np.isfinite(list(scores.values()))))
        case Detections(found=found):
            return bool(np.all(np.isfinite([d.score for d in found])))
    raise AssertionError(f"unknown evidence {seen!r}")


def _failed(frame: Frame, error: Exception) -> Failure:
    # torch raises its own class for a device, MemoryError is the interpreter's; both mean the same here.
    exhausted = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    code: ErrorCode = "out_of_memory" if exhausted else "model_error"
    message = f"the models could not look at this picture: {error}"
    return Failure(
        item=frame.item, stage="measure", code=code, message=message, media=frame.media, last=frame.last
    )


def _check_sight(model: Model, policy: Policy, *, allow_partial: bool) -> Sequence[str]:
    unseen = unseen_categories(policy, spec=model.spec, text_image=is_text_image(model))
    if unseen and not allow_partial:
        raise BlindModelError(
            f"{model.name} cannot see {', '.join(unseen)} of the policy {policy.name!r}, so it would call "
            "them safe. Take another model, map its labels in the policy, or add --allow-partial"
        )
    if is_detector(model) and not any(c.otherwise for c in policy.categories):
        raise BlindModelError(
            f"{model.name} is a detector, and the policy {policy.name!r} has no category with "
            "`otherwise = true` for what its silence means"
        )
    seen = seen_categories(policy, spec=model.spec, text_image=is_text_image(model))
    if len(seen) < (1 if is_detector(model) else 2):
        raise BlindModelError(
            f"{model.name} sees {', '.join(seen) or 'none'} of the categories of the policy {policy.name!r}; "
            "to tell two of them apart they need prompts (for a text-image model) or mapped labels"
        )
    return unseen


def _reader(model: Model, policy: Policy) -> Reader:
    if is_text_image(model):
        texts = list(dict.fromkeys(t for c in policy.categories for t in policy.texts_of(c)))
        embeddings = dict(zip(texts, model.embed(texts), strict=True))
        return TextReader(
            vectors=mean_vectors(embeddings, policy),
            visible=categories_with_prompts(policy),
            total=len(policy.categories),
            scale=model.logit_scale,
        )
    labels = mapped_labels(policy, model.spec)
    _check_labels(model, policy, labels)
    if is_detector(model):
        rest = next(i for i, c in enumerate(policy.categories) if c.otherwise)
        return DetectorReader(labels=labels, order=severity_order(policy), rest=rest)
    return LabelReader(labels=labels)


def _check_labels(model: Model, policy: Policy, labels: Sequence[frozenset[str]]) -> None:
    """Refuse a label map that names labels which the model does not have: it would be blind to them."""
    known = set(labels_of(model))
    if unknown := sorted(set().union(*labels) - known):
        raise BlindModelError(
            f"the policy {policy.name!r} maps labels that {model.name} does not have: {', '.join(unknown)}. "
            f"It has: {', '.join(sorted(known))}"
        )
