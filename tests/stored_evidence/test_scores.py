"""Scores of whole parts at once are those of the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipmod_cli.errors import ErrorCode
from clipmod_cli.evidence import scores as scores_module
from clipmod_cli.evidence.folder import EvidenceFolder, open_folder, write_part
from clipmod_cli.evidence.identity import EvidenceIdentity, StoredMember, write_identity
from clipmod_cli.evidence.rescore import judge_one, rescore
from clipmod_cli.evidence.rows import ItemEvidence, to_row, vectors_of
from clipmod_cli.evidence.scores import PartScores, score_parts
from clipmod_cli.judge.criteria import Criteria, WeightedReader
from clipmod_cli.judge.head_reader import HeadReader
from clipmod_cli.judge.policy.values import Category, Policy, Scoring
from clipmod_cli.judge.readers import (
    ComparedTexts,
    ComparingTextReader,
    DetectorReader,
    LabelReader,
    Reader,
    TextReader,
    VectorReader,
)
from clipmod_cli.results import Result
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
from tests.heads.kit import of_model

NAMES = ("neutral", "drawing", "nude", "gore")
UNSAFE = (False, False, True, True)


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


def directions(count: int) -> NDArray[np.float32]:
    rows = RNG.standard_normal((count, 8))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


VECTORS = directions(4)
TEXTS = [ComparedTexts(prompts=directions(2), negatives=directions(3 if unsafe else 0)) for unsafe in UNSAFE]
MAPPED = [frozenset("a"), frozenset[str](), frozenset("b"), frozenset("b")]
"""The classifier does not divide its label b."""
FOUND = [frozenset[str](), frozenset[str](), frozenset("d"), frozenset("e")]


HEADS = [of_model(*direction, bias=-0.5) for direction in 3 * directions(3)]


def heads(text: VectorReader, scoring: Scoring) -> HeadReader:
    """Return a reader with heads of the UNSAFE categories, and with softmax scoring of a SAFE one."""
    independent = scoring == "independent"
    learnt = zip((3, 2) if independent else (3, 2, 1), HEADS, strict=False)
    return HeadReader(heads=list(learnt), unsafe=UNSAFE, prompts=text, rest=0, independent=independent)


def readers(scoring: Scoring, *, with_heads: bool = False) -> list[Reader]:
    unsafe = UNSAFE if scoring == "independent" else None
    text: VectorReader = (
        TextReader(vectors=VECTORS, visible=range(4), total=4, scale=10.0)
        if scoring == "softmax"
        else ComparingTextReader(texts=TEXTS, unsafe=UNSAFE, scale=10.0)
    )
    labels = LabelReader(labels=MAPPED, unmapped=frozenset("c"), unsafe=unsafe)
    text = heads(text, scoring) if with_heads else text
    return [text, labels, DetectorReader(labels=FOUND, order=(3, 2, 1, 0), rest=0, unsafe=unsafe)]


steps = st.integers(0, 20).map(lambda step: step / 20)
own = st.dictionaries(
    st.sampled_from(["nude", "gore"]), st.tuples(steps, st.sampled_from([0.0, 0.05, 0.2])), max_size=2
)


@st.composite
def all_criteria(draw: st.DrawFn) -> Criteria:
    """Return criteria of either scoring, some with thresholds of categories."""
    thresholds, scoring = draw(own), draw(st.sampled_from(get_args(Scoring)))
    policy = Policy(
        name="four",
        scoring=scoring,
        review_margin=draw(st.sampled_from([0.0, 0.1])),
        agreement_threshold=draw(st.sampled_from([0.0, 0.5, 0.7, 0.8, 1.0])),
        categories=tuple(
            Category(
                name=name,
                safety="UNSAFE" if unsafe else "SAFE",
                prompts=(name,),
                threshold=thresholds[name][0] if name in thresholds else None,
                review_margin=thresholds[name][1] if name in thresholds else None,
            )
            for name, unsafe in zip(NAMES, UNSAFE, strict=True)
        ),
    )
    judges = [
        WeightedReader(name=member.name, weight=member.weight, reader=reader)
        for member, reader in zip(MEMBERS, readers(scoring, with_heads=draw(st.booleans())), strict=True)
    ]
    return Criteria(policy=policy, threshold=draw(steps), judges=judges, unseen=[], degraded=False)


@st.composite
def views(draw: st.DrawFn) -> dict[str, Seen]:
    """What three models saw in a view; some classifiers say nothing that has a category."""
    vector = np.asarray(draw(st.lists(st.integers(-3, 3), min_size=8, max_size=8)), dtype=np.float32)
    length = float(np.linalg.norm(vector)) or 1.0
    shares = [draw(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0.01, 1.0)) for _ in LABELS]
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
        kind="animation" if draw(st.integers(0, 7)) == 0 else "image",
        duration_s=2.0,
        coverage=draw(st.sampled_from([None, None, 0.5, 1.0])),
        truncated=draw(st.integers(0, 9)) == 0,
        unseen=("other_content",) if draw(st.integers(0, 9)) == 0 else (),
    )
    found = ItemEvidence(item=item, media=media)
    for number in range(draw(st.sampled_from([1, 1, 2, 3, 0]))):
        seen = draw(views())
        stand_in = draw(st.integers(0, 19)) == 0
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
    if not found.views or draw(st.integers(0, 19)) == 0:
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
@given(st.lists(inputs(), min_size=4, max_size=12), all_criteria())
def test_scores_are_those_of_the_records(
    tmp_path_factory: pytest.TempPathFactory, found: list[ItemEvidence], judged: Criteria
) -> None:
    stored = write(tmp_path_factory.mktemp("ev"), found)
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


def one_by_one(
    stored: EvidenceFolder, judged: Criteria, monkeypatch: pytest.MonkeyPatch
) -> tuple[PartScores, int]:
    """Return the scores of a folder, and how many inputs were judged one by one for them."""
    counted = 0

    def counting(*arguments: Any, **more: Any) -> Result:
        nonlocal counted
        counted += 1
        return judge_one(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(scores_module, "judge_one", counting)
        (scores,) = score_parts(stored, judged)
    return scores, counted


def plain_still(*found: Detection, **scores: float) -> ItemEvidence:
    """Return a still of which a text-image model says nothing, a classifier this, and a detector that."""
    item, media = Item(source="a.png", index=0), Media(started=0.0, kind="image", coverage=1.0)
    seen: dict[str, Seen] = {
        "clip": Embedding(vector=VECTORS[0].astype(np.float16).astype(np.float32)),
        "classes": LabelScores(scores={**dict.fromkeys(LABELS, 0.0), **scores}),
        "boxes": Detections(found=found),
    }
    view = Evidence(
        item=item, media=media, number=0, time_s=0.0, last=True, view=View(box=Box(0, 0, 8, 8)), seen=seen,
        forward_ms=dict.fromkeys(seen, 0.0),
    )  # fmt: skip
    return ItemEvidence(item=item, media=media, views=[view])


@pytest.mark.parametrize("scoring", get_args(Scoring))
def test_only_what_lies_at_a_threshold_or_margin_is_judged_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scoring: Scoring
) -> None:
    """Also where categories have thresholds of their own."""
    shares = [0.02 * step + 0.01 for step in range(50)]
    stored = write(tmp_path, [plain_still(a=1 - share, b=share) for share in shares])
    categories = [
        Category(name=name, safety="UNSAFE" if unsafe else "SAFE", prompts=(name,))
        for name, unsafe in zip(NAMES, UNSAFE, strict=True)
    ]
    plain = Policy(name="four", scoring=scoring, review_margin=0.0, categories=tuple(categories))
    weights = [member.weight for member in MEMBERS]
    members = zip(MEMBERS, weights, readers(scoring), strict=True)
    judges = [WeightedReader(name=m.name, weight=weight, reader=reader) for m, weight, reader in members]
    usual = Criteria(policy=plain, threshold=1.0, judges=judges)
    assert one_by_one(stored, usual, monkeypatch)[1] == 0
    middle = list(rescore(stored, usual, max_gap_s=10.0))[25]
    assert isinstance(middle, Verdict)
    score = middle.category_scores["nude"]
    for threshold, margin in ((score, 0.0), (score - 0.01, 0.01)):
        exact = replace(categories[2], threshold=round(threshold, 6), review_margin=margin)
        policy = replace(plain, categories=(*categories[:2], exact, categories[3]))
        judged = Criteria(policy=policy, threshold=1.0, judges=judges)
        scores, few = one_by_one(stored, judged, monkeypatch)
        assert 0 < few < 5
        results = list(rescore(stored, judged, max_gap_s=10.0))
        assert [r.decision == "NSFW" for r in results if isinstance(r, Verdict)] == scores.nsfw.tolist()
        assert [r.needs_review for r in results if isinstance(r, Verdict)] == scores.review.tolist()
        assert 0 < scores.nsfw.sum() < len(shares)


@pytest.mark.parametrize("scoring", get_args(Scoring))
def test_a_view_that_reaches_a_category_decides_over_one_with_a_higher_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scoring: Scoring
) -> None:
    seen = [plain_still(Detection(label=label, score=score, box=(0, 0, 1, 1)), a=1.0)
            for label, score in (("e", 0.9), ("d", 0.8))]  # fmt: skip
    both = replace(seen[0], views=[one.views[0] for one in seen])
    categories = [
        Category(
            name=name,
            safety="UNSAFE" if unsafe else "SAFE",
            prompts=(name,),
            threshold=0.5 if name == "nude" else None,
        )
        for name, unsafe in zip(NAMES, UNSAFE, strict=True)
    ]
    policy = Policy(name="four", scoring=scoring, categories=tuple(categories))
    members = zip(MEMBERS, (0.01, 0.01, 0.98), readers(scoring), strict=True)
    judges = [WeightedReader(name=m.name, weight=weight, reader=reader) for m, weight, reader in members]
    stored = write(tmp_path, [both])
    judged = Criteria(policy=policy, threshold=1.0, judges=judges)
    scores, few = one_by_one(stored, judged, monkeypatch)
    assert few == 0
    (result,) = rescore(stored, judged, max_gap_s=10.0)
    assert isinstance(result, Verdict)
    assert (result.decision, result.deciding.category) == ("NSFW", "nude")
    assert (bool(scores.nsfw[0]), NAMES[scores.category[0]]) == (True, "nude")
    assert scores.unsafe[0] == pytest.approx(result.deciding.unsafe_score, abs=1e-6)
    assert result.category_scores["gore"] > result.deciding.unsafe_score
