"""Heads made of numbers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.policy.heads import (
    Head,
    HeadFacts,
    HeadOfModel,
    LearntModel,
    MeasuredArea,
    head_file,
    parse_head,
)

Numbers = tuple[Sequence[float], float]
"""Weights and bias."""


def f32(numbers: object) -> NDArray[np.float32]:
    """Return numbers as a float32 array."""
    return np.asarray(numbers, dtype=np.float32)


def head_bytes(category: str, models: Mapping[str, Numbers], revision: str = "1") -> bytes:
    """Return the file of a head with these numbers by spec."""
    area = MeasuredArea(value=0.9, low=0.8, high=0.95)
    facts = HeadFacts(
        category=category,
        learnt_on=dt.date(2026, 1, 2),
        models=[LearntModel(spec=spec, revision=revision, c=1.0, average_precision=area) for spec in models],
        positives=30,
        negatives=40,
        labels_sha256="0" * 64,
        folds=5,
        average_precision=area,
    )
    weights = [np.asarray(numbers, dtype=np.float32) for numbers, _ in models.values()]
    return head_file(facts, weights, [bias for _, bias in models.values()])


def make_head(category: str, models: Mapping[str, Numbers], revision: str = "1") -> Head:
    """Return a head with these numbers by spec."""
    return parse_head(head_bytes(category, models, revision), "test")[0]


def of_model(*weights: float, bias: float = 0.0, spec: str = "clip") -> HeadOfModel:
    """Return the head of one model."""
    return HeadOfModel(spec=spec, revision="1", weights=np.asarray(weights, dtype=np.float32), bias=bias)
