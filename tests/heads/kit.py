"""Heads made of numbers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.evidence.folder import EvidenceFolder, open_folder, write_part
from clipmod_cli.evidence.identity import EvidenceIdentity, StoredMember, write_identity
from clipmod_cli.evidence.rows import ItemEvidence, to_row
from clipmod_cli.judge.policy.heads import (
    Head,
    HeadFacts,
    HeadOfModel,
    LearntModel,
    MeasuredArea,
    head_file,
    parse_head,
)
from clipmod_cli.types import Box, Embedding, Evidence, Failure, Item, Media, View

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


@dataclass(frozen=True, slots=True)
class SeenStill:
    """A still by what a model saw of its views; `broken` if a frame was lost."""

    name: str
    views: Sequence[Sequence[float]]
    broken: bool = False
    sha256: str | None = None


def store(folder: Path, stills: Sequence[SeenStill], *, kind: str = "text-image") -> EvidenceFolder:
    """Write stored evidence of one model, `clip`."""
    member = StoredMember.model_validate(
        {
            "name": "clip",
            "spec": "clip",
            "revision": "1",
            "kind": kind,
            "weight": 1.0,
            "dtype": "float32",
            "labels": None if kind == "text-image" else ["a"],
            "logit_scale": 10.0 if kind == "text-image" else None,
        }
    )
    identity = EvidenceIdentity(
        members=[member], dtype="float32", degraded=False, decoding={}, decoding_key="k", max_gap_s=10.0
    )
    write_identity(folder, identity)
    rows, matrix = [], list[NDArray[np.float16]]()
    for number, one in enumerate(stills):
        rows.append(to_row(_evidence(number, one), [member], len(matrix)))
        matrix += [np.asarray(vector, dtype=np.float16) for vector in one.views]
    write_part(folder, rows, {"clip": np.stack(matrix)} if kind == "text-image" else {})
    return open_folder(folder)


def _evidence(number: int, still: SeenStill) -> ItemEvidence:
    item = Item(source=still.name, index=number)
    media = Media(started=0.0, kind="image", sha256=still.sha256 or f"{number:064x}", coverage=1.0)
    views = [
        Evidence(
            item=item,
            media=media,
            number=0,
            time_s=0.0,
            last=False,
            view=View(box=Box(at, 0, 8, 8)),
            seen={"clip": Embedding(vector=f32(vector))},
            forward_ms={"clip": 0.0},
        )
        for at, vector in enumerate(still.views)
    ]
    lost = Failure(item=item, stage="decode", code="decode_error", message="lost", media=media)
    return ItemEvidence(item=item, media=media, views=views, failure=lost if still.broken else None)
