"""Scores of whole parts at once are those of the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmod_cli.errors import ErrorCode
from clipmod_cli.evidence.folder import EvidenceFolder, open_folder, write_part
from clipmod_cli.evidence.identity import EvidenceIdentity, StoredMember, write_identity
from clipmod_cli.evidence.rescore import rescore
from clipmod_cli.evidence.rows import ItemEvidence, to_row, vectors_of
from clipmod_cli.evidence.scores import score_parts
from clipmod_cli.judge.criteria import Criteria, WeightedReader
from clipmod_cli.judge.policy.values import Category, Policy
from clipmod_cli.judge.readers import DetectorReader, LabelReader, Reader, TextReader
from clipmod_cli.types import (
    Box,
    Detection,
    Detections,
    Embedding,
    Evidence,
    Failure,
    Item,
    LabelScores,
    Media,
    Seen,
    Verdict,
    View,
)

NAMES = ("neutral", "drawing", "nude", "gore")
POLICY = Policy(
    name="four",
    categories=tuple(
        Category(name=name, safety="UNSAFE" if name in ("nude", "gore") else "SAFE", prompts=(name,))
        for name in NAMES
    ),
)
CODE: ErrorCode = "decode_error"
LABELS = ["a", "b", "c"]


def _member(name: str, kind: Literal["text-image", "classifier", "detector"], weight: float) -> StoredMember:
    labels = {"classifier": LABELS, "detector": ["d", "e"]}.get(kind)
    return StoredMember(
        name=name,
        spec=name,
        revision="1",
        kind=kind,
        weight=weight,
        dtype="float32",
        labels=labels,
        logit_scale=10.0 if kind == "text-image" else None,
    )


MEMBERS = [
    _member("clip", "text-image", 0.5),
    _member("classes", "classifier", 0.3),
    _member("boxes", "detector", 0.2),
]
RNG = np.random.default_rng(7)
VECTORS = RNG.standard_normal((4, 8)).astype(np.float32)
READERS: list[Reader] = [
    TextReader(
        vectors=VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True),
        visible=range(4),
        total=4,
        scale=10.0,
    ),
    LabelReader(
        labels=[frozenset("a"), frozenset(), frozenset("b"), frozenset("b")], unmapped=frozenset("c")
    ),
    DetectorReader(
        labels=[frozenset(), frozenset(), frozenset("d"), frozenset("e")], order=(3, 2, 1, 0), rest=0
    ),
]


def criteria(policy: Policy = POLICY, threshold: float = 0.5) -> Criteria:
    judges = [
        WeightedReader(name=member.name, weight=member.weight, reader=reader)
        for member, reader in zip(MEMBERS, READERS, strict=True)
    ]
    return Criteria(policy=policy, threshold=threshold, judges=judges, unseen=[], degraded=False)


@st.composite
def views(draw: st.DrawFn) -> dict[str, Seen]:
    """What three models saw in a view; some classifiers say nothing that has a category."""
    vector = np.asarray(draw(st.lists(st.integers(-3, 3), min_size=8, max_size=8)), dtype=np.float32)
    length = float(np.linalg.norm(vector)) or 1.0
    shares = [draw(st.sampled_from([0.0, 0.1, 0.4, 0.5, 1.0])) for _ in LABELS]
    found = draw(st.lists(st.tuples(st.sampled_from("de"), st.sampled_from([0.1, 0.5, 0.9])), max_size=3))
    return {
        "clip": Embedding(vector=(vector / length).astype(np.float16).astype(np.float32)),
        "classes": LabelScores(scores=dict(zip(LABELS, shares, strict=True))),
        "boxes": Detections(found=tuple(Detection(label=a, score=b, box=(0, 0, 1, 1)) for a, b in found)),
    }


@st.composite
def inputs(draw: st.DrawFn) -> ItemEvidence:
    """Return a still, an animation or a failure, with one to four views."""
    item = Item(source=draw(st.sampled_from(["a.png", "b.png"])), index=draw(st.integers(0, 9)))
    media = Media(
        started=0.0,
        kind=draw(st.sampled_from(["image", "image", "animation"])),
        duration_s=2.0,
        coverage=draw(st.sampled_from([None, 0.5, 1.0])),
        truncated=draw(st.booleans()),
        unseen=draw(st.sampled_from([(), ("other_content",)])),
    )
    found = ItemEvidence(item=item, media=media)
    for number in range(draw(st.integers(0, 4))):
        seen = draw(views())
        stand_in = draw(st.integers(0, 9)) == 0
        frame = number if media.kind == "animation" else 0
        found.views.append(
            Evidence(
                item=item,
                media=media,
                number=frame,
                time_s=frame / 2,
                last=False,
                view=View(box=Box(0, 0, 8, 8)),
                seen={"clip": seen["clip"]} if stand_in else seen,
                forward_ms=dict.fromkeys(seen, 0.0),
                stand_in=stand_in,
            )
        )
    if not found.views or draw(st.integers(0, 9)) == 0:
        found.failure = Failure(item=item, stage="decode", code=CODE, message="broken", media=media)
    return found


def write(folder: Path, found: Sequence[ItemEvidence]) -> EvidenceFolder:
    identity = EvidenceIdentity(
        members=MEMBERS, dtype="float32", degraded=False, decoding={}, decoding_key="k", max_gap_s=10.0
    )
    write_identity(folder, identity)
    rows, first, vectors = [], 0, []
    for one in found:
        rows.append(to_row(one, MEMBERS, first))
        first += len(one.views)
        vectors += vectors_of(one.views, MEMBERS[0])
    write_part(
        folder, rows, {"clip": np.stack([v for v in vectors if v is not None] or [np.zeros(8, np.float16)])}
    )
    return open_folder(folder)


@settings(max_examples=40)
@given(st.lists(inputs(), min_size=1, max_size=12), st.sampled_from([0.3, 0.5, 0.75]))
def test_scores_are_those_of_the_records(
    tmp_path_factory: pytest.TempPathFactory, found: list[ItemEvidence], threshold: float
) -> None:
    stored = write(tmp_path_factory.mktemp("ev"), found)
    judged = criteria(threshold=threshold)
    (scores,) = score_parts(stored, judged)
    results = list(rescore(stored, judged, max_gap_s=10.0))
    assert len(results) == len(found) == len(scores.rows)
    for number, result in enumerate(results):
        if isinstance(result, Verdict):
            assert scores.unsafe[number] == pytest.approx(result.deciding.unsafe_score, abs=1e-6)
            assert NAMES[scores.category[number]] == result.deciding.category
            assert scores.nsfw[number] == (result.decision == "NSFW")
            assert scores.review[number] == result.needs_review
        else:
            assert np.isnan(scores.unsafe[number])
            assert scores.category[number] == -1
            assert not scores.nsfw[number]
