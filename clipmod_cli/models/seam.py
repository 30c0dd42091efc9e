"""Which of the three kinds a model is: one that reads prompts, a classifier, or a detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from clipmod_cli.types import AsynchronousModel, LabelModel, Model, TextImageModel


def is_text_image(model: Model) -> TypeGuard[TextImageModel]:
    """Return whether the model embeds prompts."""
    return hasattr(model, "embed")


def is_detector(model: Model) -> bool:
    """Return whether the model's silence means something: it reports only what it found."""
    return getattr(model, "detects", False)


def is_asynchronous(model: Model) -> TypeGuard[AsynchronousModel]:
    """Return whether the model can be begun with a batch, and its results waited for later."""
    return getattr(model, "is_asynchronous", False)


def labels_of(model: Model) -> Sequence[str]:
    """Return a classifier's or detector's own labels."""
    labelled: LabelModel = model  # type: ignore[assignment]
    return labelled.labels
